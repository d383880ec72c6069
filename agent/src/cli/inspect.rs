//! `inspect` of anything: documents as the daemon sent them, indented, or
//! through a template.

use super::command::{Arity, Command};
use super::exit::{self, Exit, Outcome};
use super::format::document_template;
use super::http::{Answer, Fault, escape};
use super::json::Value;
use super::template::Scope;
use super::{Invocation, json};

pub(super) const FLAGS: &str = "f format string Print by a template, or json";

const TOP_FLAGS: &str = "\
f format string Print by a template, or json
s size bool Add a container's sizes
. type string Only objects of this type";

pub(super) const COMMAND: Command = Command::new(
    &["inspect"],
    "[OPTIONS] NAME|ID [NAME|ID...]",
    "Show all there is to know of objects of any type",
    Arity::AtLeast(1),
    &[TOP_FLAGS],
    run,
);

/// Where objects of each type are, in the order they are tried, and whether
/// their times are no strings.
const KINDS: &[(&str, &str, &str, bool)] = &[
    ("container", "/containers/", "/json", false),
    ("image", "/images/", "/json", false),
    ("network", "/networks/", "", true),
    ("volume", "/volumes/", "", false),
    ("service", "/services/", "?insertDefaults=true", true),
    ("task", "/tasks/", "", true),
    ("node", "/nodes/", "", true),
    ("plugin", "/plugins/", "/json", false),
    ("secret", "/secrets/", "", true),
    ("config", "/configs/", "", true),
];

/// Prints a document a name; those that are not there are told of at the end.
pub(super) fn each(
    inv: &Invocation,
    names: &[String],
    fetch: impl Fn(&str) -> Answer<(String, Scope)>,
) -> Outcome {
    let template = match inv.flags.str("format") {
        "" => None,
        format => Some(document_template(format)?),
    };
    let (mut texts, mut filled, mut failures) = (Vec::new(), String::new(), Vec::new());
    for name in names {
        match fetch(name) {
            Err(fault) => failures.push(fault.to_string()),
            Ok((text, scope)) => match &template {
                None => texts.push(text.trim().to_owned()),
                Some(template) => {
                    let document = Value::parse(text.as_bytes())
                        .map_err(|e| Exit::failure(format!("unable to read inspect data: {e}")))?;
                    match template.execute(&document, scope) {
                        Ok(line) => filled += &(line + "\n"),
                        Err(e) => {
                            exit::print(if filled.is_empty() { "\n" } else { &filled })?;
                            return Err(Exit::failure(format!("template parsing error: {e}")));
                        }
                    }
                }
            },
        }
    }
    match &template {
        Some(_) if filled.is_empty() => exit::print_line("")?,
        Some(_) => exit::print(&filled)?,
        None => exit::print_line(&json::indent(&format!("[{}]", texts.join(","))))?,
    }
    Exit::all(failures)
}

/// [`each`] for one type, named by its folder in the API.
pub(super) fn of_type(inv: &Invocation, kind: &str) -> Outcome {
    let Some((_, before, after, typed)) = KINDS.iter().find(|(name, ..)| *name == kind) else {
        return Err(Exit::failure(format!(
            "{kind:?} is not a valid value for --type"
        )));
    };
    let scope = scope(*typed);
    each(inv, &inv.operands, |name| {
        fetch(inv, before, name, after, scope)
    })
}

fn scope(typed: bool) -> Scope {
    if typed {
        Scope::typed_document()
    } else {
        Scope::document()
    }
}

fn fetch(
    inv: &Invocation,
    before: &str,
    name: &str,
    after: &str,
    scope: Scope,
) -> Answer<(String, Scope)> {
    let size = if inv.flags.bool("size") && before == "/containers/" {
        "?size=1"
    } else {
        ""
    };
    let verbose = if inv.flags.bool("verbose") && before == "/networks/" {
        "?verbose=true"
    } else {
        ""
    };
    // Slashes of an image's name are part of the path.
    let name = escape(name)
        .replace("%2F", "/")
        .replace("%3A", ":")
        .replace("%40", "@");
    inv.client
        .get_text(&format!("{before}{name}{after}{size}{verbose}"))
        .map(|text| (text, scope))
}

fn run(inv: &Invocation) -> Outcome {
    let wanted = inv.flags.str("type");
    if inv.flags.changed("type") && wanted.is_empty() {
        return Err(Exit::failure(
            "type is empty: must be one of \"config\", \"container\", \"image\", \"network\", \"node\", \"plugin\", \"secret\", \"service\", \"task\", \"volume\"",
        ));
    }
    if !wanted.is_empty() {
        return match KINDS.iter().any(|(kind, ..)| *kind == wanted) {
            true => of_type(inv, wanted),
            false => Err(Exit::failure(format!(
                "unknown type: {wanted:?}: must be one of \"config\", \"container\", \"image\", \"network\", \"node\", \"plugin\", \"secret\", \"service\", \"task\", \"volume\""
            ))),
        };
    }
    each(inv, &inv.operands, |name| any(inv, name))
}

/// The first object of any type that the name names.
fn any(inv: &Invocation, name: &str) -> Answer<(String, Scope)> {
    for (_, before, after, typed) in KINDS {
        match fetch(inv, before, name, after, scope(*typed)) {
            // Not there, not of a swarm, or not a thing this daemon has.
            Err(Fault {
                status: Some(400 | 404 | 406 | 501 | 503),
                ..
            }) => {}
            other => return other,
        }
    }
    Err(Fault {
        status: None,
        message: format!("Error: No such object: {name}"),
    })
}
