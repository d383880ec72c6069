//! Listings: rows of named fields, printed as a table, by a template, or as
//! JSON, a line a row.

use super::exit::{self, Exit, Outcome};
use super::json::Value;
use super::table;
use super::template::{Scope, Template};

/// What a listing's rows are.
pub(super) struct Listing {
    /// The Go type that messages name.
    pub(super) row_type: &'static str,
    /// The default table's template, without the word `table`.
    pub(super) columns: &'static str,
    /// The template for `--quiet`.
    pub(super) quiet: &'static str,
    /// Headers by field.
    pub(super) headers: &'static [(&'static str, &'static str)],
}

/// A row under construction.
pub(super) struct Row(Vec<(String, Value)>);

impl Row {
    pub(super) fn new() -> Self {
        Self(Vec::new())
    }

    pub(super) fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.0.push((field.to_owned(), value.into()));
        self
    }

    /// The labels that `.Labels` prints and `.Label "x"` looks up.
    pub(super) fn labels(self, labels: &Value) -> Self {
        let pairs: Vec<String> = labels
            .sorted_root()
            .iter()
            .map(|(k, v)| format!("{k}={}", v.str()))
            .collect();
        self.with("Labels", pairs.join(","))
            .with("\0labels", labels.clone())
    }

    /// Fields in order of their names, as Docker's JSON has them.
    pub(super) fn done(mut self) -> Value {
        self.0.sort_by(|a, b| a.0.cmp(&b.0));
        Value::Map(self.0)
    }
}

impl Listing {
    /// The format that was asked for, or the default one.
    pub(super) fn choose(&self, format: &str, quiet: bool) -> String {
        match format {
            "" | "table" if quiet => self.quiet.to_owned(),
            "" | "table" => format!("table {}", self.columns),
            other => other.to_owned(),
        }
    }

    /// Prints rows in a chosen format.
    pub(super) fn print(&self, format: &str, rows: &[Value]) -> Outcome {
        exit::print(&self.text(format, rows)?)
    }

    pub(super) fn text(&self, format: &str, rows: &[Value]) -> Outcome<String> {
        let (is_table, template) = match format {
            "json" => (false, "{{json .}}".to_owned()),
            _ => match format.strip_prefix("table") {
                Some(rest) => (true, unescape(rest)),
                None => (false, unescape(format)),
            },
        };
        let wrong = |e: String| Exit::failure(format!("template parsing error: {e}"));
        let template = Template::parse(&template).map_err(wrong)?;
        let mut text = String::new();
        if is_table {
            let headers = Value::Map(
                self.headers
                    .iter()
                    .map(|(field, header)| ((*field).to_owned(), (*header).into()))
                    .collect(),
            );
            text = template.execute(&headers, Scope::header()).map_err(wrong)? + "\n";
        }
        for row in rows {
            text += &template
                .execute(row, Scope::row(self.row_type))
                .map_err(wrong)?;
            text.push('\n');
        }
        Ok(if is_table {
            table::align(&text, 10, 3)
        } else {
            text
        })
    }
}

/// Blanks around the format mean nothing; `\t` and `\n` written out do.
fn unescape(format: &str) -> String {
    format
        .trim_matches(' ')
        .replace("\\t", "\t")
        .replace("\\n", "\n")
}

/// Docker's form of `--format` for documents: `json` or a template.
pub(super) fn document_template(format: &str) -> Outcome<Template> {
    let source = if format == "json" {
        "{{json .}}"
    } else {
        format
    };
    Template::parse(source).map_err(|e| Exit::with_code(64, format!("template parsing error: {e}")))
}

/// The first twelve characters of an id, without the name of its hash.
pub(super) fn short_id(id: &str) -> String {
    let id = id.split_once(':').map_or(id, |(_, hex)| hex);
    id.chars().take(12).collect()
}

/// At most `width` characters, the last an ellipsis when some are left out.
pub(super) fn ellipsis(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: Listing = Listing {
        row_type: "formatter.thingContext",
        columns: "{{.ID}}\t{{.Name}}",
        quiet: "{{.ID}}",
        headers: &[("ID", "ID"), ("Name", "NAME"), ("Labels", "LABELS")],
    };

    fn rows() -> Vec<Value> {
        let labels = Value::parse(br#"{"b":"2","a":"1"}"#).unwrap();
        vec![
            Row::new()
                .with("Name", "n")
                .with("ID", "i")
                .labels(&labels)
                .done(),
        ]
    }

    #[test]
    fn tables_templates_quiet_and_json() {
        let text = |format: &str, quiet| {
            LISTING
                .text(&LISTING.choose(format, quiet), &rows())
                .unwrap()
        };
        assert_eq!(text("", false), "ID        NAME\ni         n\n");
        assert_eq!(text("", true), "i\n");
        assert_eq!(
            text("json", false),
            "{\"ID\":\"i\",\"Labels\":\"a=1,b=2\",\"Name\":\"n\"}\n"
        );
        assert_eq!(
            text(r#"table {{upper .Name}}\t{{.Label "a"}}"#, false),
            "NAME      a\nN         1\n"
        );
        assert_eq!(text("{{.Name}}: {{.Labels}}", false), "n: a=1,b=2\n");
    }

    #[test]
    fn a_field_that_is_not_there_is_named() {
        let e = LISTING.text("{{.Foo}}", &rows()).unwrap_err();
        assert_eq!(
            e.message,
            r#"template parsing error: template: :1:2: executing "" at <.Foo>: can't evaluate field Foo in type *formatter.thingContext"#
        );
    }

    #[test]
    fn shortening() {
        assert_eq!(short_id("sha256:0123456789abcdef"), "0123456789ab");
        assert_eq!(ellipsis("abcdef", 4), "abc…");
        assert_eq!(ellipsis("abcd", 4), "abcd");
    }
}
