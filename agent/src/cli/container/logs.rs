//! `logs`.

use std::io;

use hyper::Method;

use super::path;
use crate::cli::Invocation;
use crate::cli::exit::Outcome;
use crate::cli::http::{Query, Upload};
use crate::cli::streams;
use crate::cli::time::Moment;

pub(super) const FLAGS: &str = "\
. details bool Show what the log options add to lines
f follow bool Go on as more is written
. since string Begin at a time (2013-01-02T13:23:37Z) or so long ago (42m)
n tail string Show that many lines from the end
t timestamps bool Show when each line was written
. until string End at a time or so long ago";

/// The query that container and service logs share.
pub(in crate::cli) fn query(inv: &Invocation, details: bool) -> Query {
    let flags = &inv.flags;
    let moment = |name: &str| match flags.str(name) {
        "" => String::new(),
        text => Moment::api_parameter(text),
    };
    Query::new()
        .with("stdout", "1")
        .with("stderr", "1")
        .flag("follow", flags.bool("follow"))
        .flag("timestamps", flags.bool("timestamps"))
        .flag("details", details)
        .some("since", &moment("since"))
        .some("until", &moment("until"))
        .with("tail", flags.get("tail").unwrap_or("all"))
}

pub(super) fn run(inv: &Invocation) -> Outcome {
    let container = inv.client.get(&path(&inv.operands[0], "/json"))?;
    let url = query(inv, inv.flags.bool("details")).on(&path(container.text("Id"), "/logs"));
    let mut response = inv.client.request(Method::GET, &url, Upload::Nothing)?;
    let (mut out, mut err) = (io::stdout().lock(), io::stderr().lock());
    if container.bool("Config.Tty") {
        streams::copy(&mut response, &mut out)?;
    } else {
        streams::demultiplex(&mut response, &mut out, &mut err)?;
    }
    Ok(())
}
