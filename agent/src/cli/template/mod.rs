//! Go templates, as far as `--format` uses them: fields, pipelines, variables,
//! `if`, `with`, `range`, and the functions Docker adds. An own small engine,
//! because the one published for Rust keeps maps unordered, and `{{json .}}`
//! has to print what the daemon sent. Errors carry Go's wording.

mod eval;
mod functions;
mod lex;
mod parse;

use super::json::Value;

pub(super) use eval::Scope;

/// A template that was understood.
#[derive(Debug)]
pub(super) struct Template {
    body: Vec<Node>,
}

#[derive(Debug)]
enum Node {
    Text(String),
    Action(Pipe),
    If {
        test: Pipe,
        then: Vec<Self>,
        otherwise: Vec<Self>,
    },
    With {
        value: Pipe,
        then: Vec<Self>,
        otherwise: Vec<Self>,
    },
    Range {
        over: Pipe,
        body: Vec<Self>,
        otherwise: Vec<Self>,
    },
    Break,
    Continue,
}

/// Commands joined by `|`, perhaps into variables.
#[derive(Debug)]
struct Pipe {
    variables: Vec<String>,
    /// `=` instead of `:=`.
    assigns: bool,
    commands: Vec<Vec<Term>>,
}

/// An operand with where it stands: line from 1, byte of the line from 0.
#[derive(Debug)]
struct Term {
    kind: Kind,
    /// Field names read from it, outermost first.
    fields: Vec<String>,
    line: usize,
    column: usize,
}

#[derive(Debug)]
enum Kind {
    Dot,
    Variable(String),
    Function(String),
    Literal(Value),
    Paren(Box<Pipe>),
}

impl Term {
    /// As it was written, for messages.
    fn source(&self) -> String {
        let head = match &self.kind {
            Kind::Dot if self.fields.is_empty() => ".".to_owned(),
            Kind::Dot => String::new(),
            Kind::Variable(name) => format!("${name}"),
            Kind::Function(name) => name.clone(),
            Kind::Literal(Value::String(s)) => format!("{s:?}"),
            Kind::Literal(value) => functions::go_text(value),
            Kind::Paren(_) => "(...)".to_owned(),
        };
        self.fields
            .iter()
            .fold(head, |text, field| format!("{text}.{field}"))
    }
}

impl Template {
    /// Reads a template; the error is what Go's parser would say.
    pub(super) fn parse(source: &str) -> Result<Self, String> {
        let tokens = lex::lex(source)?;
        Ok(Self {
            body: parse::Parser::new(tokens).template()?,
        })
    }

    /// Fills the template in for one value.
    pub(super) fn execute(&self, data: &Value, scope: Scope) -> Result<String, String> {
        eval::execute(&self.body, data, scope)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(template: &str, json: &str) -> Result<String, String> {
        let data = Value::parse(json.as_bytes()).unwrap();
        Template::parse(template)?.execute(&data, Scope::document())
    }

    #[test]
    fn fields_and_text() {
        assert_eq!(fill("a {{.A.B}} b", r#"{"A":{"B":1}}"#).unwrap(), "a 1 b");
        assert_eq!(
            fill("{{.}}", r#"{"b":[1,"x"],"a":true}"#).unwrap(),
            "map[a:true b:[1 x]]"
        );
        assert_eq!(
            fill("{{json .}}", r#"{"b":[1,"<x>"],"a":null}"#).unwrap(),
            r#"{"b":[1,"<x>"],"a":null}"#
        );
        assert_eq!(
            fill("{{ (index .L 1).N }}", r#"{"L":[{"N":1},{"N":2}]}"#).unwrap(),
            "2"
        );
        assert_eq!(
            fill(r#"{{index .M "a" "b"}}"#, r#"{"M":{"a":{"b":"c"}}}"#).unwrap(),
            "c"
        );
    }

    #[test]
    fn control() {
        assert_eq!(
            fill(
                "{{if .A}}x{{else if .B}}y{{else}}z{{end}}",
                r#"{"A":0,"B":"b"}"#
            )
            .unwrap(),
            "y"
        );
        assert_eq!(
            fill("{{range .L}}<{{.}}>{{else}}none{{end}}", r#"{"L":[1,2]}"#).unwrap(),
            "<1><2>"
        );
        assert_eq!(
            fill("{{range .L}}<{{.}}>{{else}}none{{end}}", r#"{"L":[]}"#).unwrap(),
            "none"
        );
        assert_eq!(
            fill(
                "{{range $k, $v := .M}}{{$k}}={{$v}},{{end}}",
                r#"{"M":{"b":2,"a":1}}"#
            )
            .unwrap(),
            "a=1,b=2,"
        );
        assert_eq!(
            fill("{{with .A}}{{.B}}{{$.C}}{{end}}", r#"{"A":{"B":1},"C":2}"#).unwrap(),
            "12"
        );
        assert_eq!(
            fill(
                "{{$x := 1}}{{range .L}}{{$x = .}}{{end}}{{$x}}",
                r#"{"L":[5,6]}"#
            )
            .unwrap(),
            "6"
        );
        assert_eq!(
            fill(
                "{{range .L}}{{if eq . 2}}{{break}}{{end}}{{.}}{{end}}",
                r#"{"L":[1,2,3]}"#
            )
            .unwrap(),
            "1"
        );
    }

    #[test]
    fn trimming_and_comments() {
        assert_eq!(fill("a {{- /* no */ -}} b", "{}").unwrap(), "ab");
        assert_eq!(fill("a\n{{- 1}}\n{{2 -}}\n b", "{}").unwrap(), "a1\n2b");
    }

    #[test]
    fn functions() {
        let json = r#"{"S":"hello","L":["a","b"],"N":3,"E":""}"#;
        let t = |template| fill(template, json).unwrap();
        assert_eq!(
            t(r#"{{upper .S}} {{.S | title}} {{join .L ","}} {{len .L}}"#),
            "HELLO Hello a,b 2"
        );
        assert_eq!(
            t(r#"{{(index (split .S "l") 0)}} {{truncate .S 2}} {{pad .S 1 2}}|{{pad .E 1 2}}|"#),
            "he he  hello  ||"
        );
        assert_eq!(
            t(r#"{{printf "%-7s|%5d|%q|%v|%05.1f" .S .N .S .L 2.25}}"#),
            "hello  |    3|\"hello\"|[a b]|002.2"
        );
        assert_eq!(
            t(r#"{{if and (eq .N 3) (ne .S "x") (lt .N 4) (not .E)}}y{{end}}"#),
            "y"
        );
        assert_eq!(
            t(r#"{{or .E "d"}} {{and .S .N}} {{println .S}}"#),
            "d 3 hello\n"
        );
        assert_eq!(
            t(r#"{{print 1 2 .S "x" 3}} {{slice .S 1 3}}"#),
            "1 2hellox3 el"
        );
    }

    #[test]
    fn refusals_have_gos_wording() {
        let wrong = |template| fill(template, r#"{"A":{"B":1}}"#).unwrap_err();
        assert_eq!(
            wrong("{{.Foo}}"),
            r#"template: :1:2: executing "" at <.Foo>: map has no entry for key "Foo""#
        );
        assert_eq!(
            wrong("{{foo .A}}"),
            r#"template: :1: function "foo" not defined"#
        );
        assert_eq!(wrong("{{.A"), "template: :1: unclosed action");
        assert_eq!(wrong("{{if .A}}"), "template: :1: unexpected EOF");
        assert_eq!(wrong("{{end}}"), "template: :1: unexpected {{end}}");
        assert_eq!(wrong("{{}}"), "template: :1: missing value for command");
    }
}
