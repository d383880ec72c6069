//! Files in and out of a container: `docker cp`.

use crate::api::call::Call;
use crate::api::reply::{self, Reply, empty};
use crate::api::router::Router;
use crate::backend::{ArchivePut, Backend, PathStat};
use crate::error::{Error, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::HeaderValue;
use hyper::{Method, StatusCode};
use serde_json::json;

/// Base64 of JSON that says what a path is.
const STAT_HEADER: &str = "X-Docker-Container-Path-Stat";

pub(super) fn routes<B: Backend>(router: &mut Router<B>) {
    router.add(Method::HEAD, "/containers/{id}/archive", stat);
    router.get("/containers/{id}/archive", get);
    router.add(Method::PUT, "/containers/{id}/archive", put);
}

fn path<B>(call: &Call<B>) -> Result<&str> {
    match call.query.text("path") {
        "" => Err(Error::invalid("bad parameter: 'path' cannot be empty")),
        path => Ok(path),
    }
}

async fn stat<B: Backend>(call: Call<B>) -> Result<Reply> {
    let stat = call
        .node
        .archive_stat(call.param("id"), path(&call)?)
        .await?;
    with_stat(empty(StatusCode::OK), &stat)
}

async fn get<B: Backend>(call: Call<B>) -> Result<Reply> {
    let (stat, tar) = call
        .node
        .archive_get(call.param("id"), path(&call)?)
        .await?;
    with_stat(reply::tar(tar), &stat)
}

async fn put<B: Backend>(call: Call<B>) -> Result<Reply> {
    let options = ArchivePut {
        no_overwrite_dir_non_dir: call.query.flag("noOverwriteDirNonDir"),
        copy_owner: call.query.flag("copyUIDGID"),
    };
    let (node, id) = (call.node.clone(), call.param("id").to_owned());
    let path = path(&call)?.to_owned();
    node.archive_put(&id, &path, options, call.into_reader())
        .await?;
    Ok(empty(StatusCode::OK))
}

fn with_stat(mut reply: Reply, stat: &PathStat) -> Result<Reply> {
    let json = json!({
        "name": stat.name,
        "size": stat.size,
        "mode": go_mode(stat.mode),
        "mtime": stat.modified,
        "linkTarget": stat.link_target,
    });
    let value = HeaderValue::try_from(STANDARD.encode(json.to_string()))
        .map_err(|e| Error::internal(e.to_string()))?;
    reply.headers_mut().insert(STAT_HEADER, value);
    Ok(reply)
}

/// `st_mode` with the kinds of files where Go's `os.FileMode` has them.
fn go_mode(mode: u32) -> u32 {
    let kind = match mode & 0o170_000 {
        0o040_000 => 1 << 31,
        0o120_000 => 1 << 27,
        0o060_000 => 1 << 26,
        0o010_000 => 1 << 25,
        0o140_000 => 1 << 24,
        0o020_000 => 1 << 26 | 1 << 21,
        _ => 0,
    };
    let special = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];
    let special = special
        .iter()
        .filter(|(bit, _)| mode & bit != 0)
        .map(|(_, go)| go);
    special.fold(kind | mode & 0o777, |all, go| all | go)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_as_go_has_them() {
        assert_eq!(go_mode(0o100_644), 0o644);
        assert_eq!(go_mode(0o040_755), 1 << 31 | 0o755);
        assert_eq!(go_mode(0o120_777), 1 << 27 | 0o777);
        assert_eq!(go_mode(0o041_777), 1 << 31 | 1 << 20 | 0o777);
    }

    #[test]
    fn the_header_is_base64_of_json() {
        let stat = PathStat {
            name: "etc".into(),
            mode: 0o040_755,
            ..PathStat::default()
        };
        let reply = with_stat(empty(StatusCode::OK), &stat).unwrap();
        let bytes = STANDARD
            .decode(reply.headers()[STAT_HEADER].as_bytes())
            .unwrap();
        let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(value["name"], "etc");
        assert_eq!(value["mode"], 2_147_484_141_u32);
    }
}
