//! Which node to talk to, and a byte stream to it.

use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use super::exit::Exit;

/// Where the agent listens unless told otherwise.
const DEFAULT_HOST: &str = "unix:///run/skep/skep.sock";
/// Docker's port for an unencrypted API.
const DEFAULT_TCP_PORT: u16 = 2375;

/// The address of a node's API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Host {
    Unix(String),
    Tcp(String),
    /// Reached through `docker system dial-stdio` there.
    Ssh {
        user: Option<String>,
        host: String,
        port: Option<String>,
    },
}

impl Host {
    /// `-H`, then `SKEP_HOST`, then `DOCKER_HOST`, then the default socket.
    pub(super) fn choose(flag: &[String]) -> Result<Self, Exit> {
        if flag.len() > 1 {
            return Err(Exit::failure("Specify only one -H"));
        }
        let variable = |name| std::env::var(name).ok().filter(|v| !v.is_empty());
        let named = flag
            .first()
            .cloned()
            .or_else(|| variable("SKEP_HOST"))
            .or_else(|| variable("DOCKER_HOST"));
        Self::parse(named.as_deref().unwrap_or(DEFAULT_HOST)).map_err(Exit::failure)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (scheme, rest) = text.split_once("://").unwrap_or(("tcp", text));
        match scheme {
            "unix" if rest.is_empty() => Self::parse(DEFAULT_HOST),
            "unix" => Ok(Self::Unix(rest.to_owned())),
            "tcp" | "http" => {
                let address = rest.split('/').next().unwrap_or(rest);
                let address = if address.is_empty() {
                    "localhost"
                } else {
                    address
                };
                let has_port = address
                    .rsplit_once(':')
                    .is_some_and(|(_, p)| p.parse::<u16>().is_ok());
                Ok(Self::Tcp(if has_port {
                    address.to_owned()
                } else {
                    format!("{address}:{DEFAULT_TCP_PORT}")
                }))
            }
            "ssh" => {
                let target = rest.split('/').next().unwrap_or(rest);
                let (user, target) = match target.split_once('@') {
                    Some((user, host)) => (Some(user.to_owned()), host),
                    None => (None, target),
                };
                let (host, port) = match target.rsplit_once(':') {
                    Some((host, port)) => (host.to_owned(), Some(port.to_owned())),
                    None => (target.to_owned(), None),
                };
                // A name that ssh would take for an option must not reach it.
                if host.is_empty()
                    || host.starts_with('-')
                    || user.as_deref().is_some_and(|u| u.starts_with('-'))
                {
                    return Err(format!("invalid ssh host: {text}"));
                }
                Ok(Self::Ssh { user, host, port })
            }
            _ => Err(format!("unable to parse docker host `{text}`")),
        }
    }

    /// A connected stream. A TCP socket and the pipe to ssh are handed out as
    /// the same type: to reading, writing and closing they are alike.
    pub(super) fn connect(&self) -> std::io::Result<UnixStream> {
        match self {
            Self::Unix(path) => UnixStream::connect(path),
            Self::Tcp(address) => {
                TcpStream::connect(address).map(|s| UnixStream::from(OwnedFd::from(s)))
            }
            Self::Ssh { user, host, port } => {
                let (ours, theirs) = UnixStream::pair()?;
                let mut ssh = Command::new("ssh");
                ssh.args(["-o", "ConnectTimeout=30", "-T"]);
                if let Some(user) = user {
                    ssh.args(["-l", user]);
                }
                if let Some(port) = port {
                    ssh.args(["-p", port]);
                }
                ssh.args(["--", host, "docker", "system", "dial-stdio"]);
                ssh.stdin(Stdio::from(OwnedFd::from(theirs.try_clone()?)));
                ssh.stdout(Stdio::from(OwnedFd::from(theirs)));
                ssh.spawn()?;
                Ok(ours)
            }
        }
    }
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{path}"),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::Ssh { host, .. } => write!(f, "ssh://{host}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_as_docker_reads_them() {
        assert_eq!(
            Host::parse("unix:///a/b.sock"),
            Ok(Host::Unix("/a/b.sock".into()))
        );
        assert_eq!(
            Host::parse("tcp://1.2.3.4"),
            Ok(Host::Tcp("1.2.3.4:2375".into()))
        );
        assert_eq!(
            Host::parse("10.0.0.1:99"),
            Ok(Host::Tcp("10.0.0.1:99".into()))
        );
        assert_eq!(
            Host::parse("ssh://pi@board:2222"),
            Ok(Host::Ssh {
                user: Some("pi".into()),
                host: "board".into(),
                port: Some("2222".into())
            })
        );
        assert!(Host::parse("ssh://-oProxyCommand=x").is_err());
        assert!(Host::parse("ftp://x").is_err());
    }
}
