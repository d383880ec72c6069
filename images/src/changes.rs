//! The Dockerfile lines that `docker import -c` takes, applied to what an
//! image asks of its containers. Pure.

use crate::{
    config::{ContainerDefaults, Empty, Healthcheck},
    error::{Error, Result},
};

/// What a command line without brackets is run by.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];
/// Ports in one EXPOSE range: all there are.
const PORTS_MAX: u32 = 65_535;

/// Applies one line (`CMD ["x"]`).
pub(crate) fn apply(line: &str, config: &mut ContainerDefaults) -> Result<()> {
    let line = line.trim();
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let (word, rest) = (word.to_ascii_uppercase(), rest.trim());
    if rest.is_empty() {
        return Err(Error::invalid(format!(
            "{word} requires at least one argument"
        )));
    }
    match word.as_str() {
        "CMD" => config.cmd = Some(command(rest)),
        "ENTRYPOINT" => config.entrypoint = Some(command(rest)),
        "ENV" => {
            for (key, value) in pairs(&word, rest)? {
                let prefix = format!("{key}=");
                config.env.retain(|known| !known.starts_with(&prefix));
                config.env.push(prefix + &value);
            }
        }
        "LABEL" => config.labels.extend(pairs(&word, rest)?),
        "EXPOSE" => {
            for item in words(rest)? {
                expose(&item, config)?;
            }
        }
        "USER" => config.user = rest.into(),
        "WORKDIR" => config.working_dir = working_dir(&config.working_dir, rest),
        "VOLUME" => {
            let paths = json_list(rest).map_or_else(|| words(rest), Ok)?;
            if paths.iter().any(|path| path.trim().is_empty()) {
                return Err(Error::invalid(
                    "VOLUME specified can not be an empty string",
                ));
            }
            config
                .volumes
                .extend(paths.into_iter().map(|path| (path, Empty {})));
        }
        "STOPSIGNAL" => config.stop_signal = rest.into(),
        "ONBUILD" => config.on_build.push(rest.into()),
        "HEALTHCHECK" => config.healthcheck = Some(healthcheck(rest)?),
        _ => {
            return Err(Error::invalid(format!(
                "{word} is not a valid change command"
            )));
        }
    }
    Ok(())
}

fn json_list(text: &str) -> Option<Vec<String>> {
    if text.starts_with('[') {
        serde_json::from_str(text).ok()
    } else {
        None
    }
}

fn command(text: &str) -> Vec<String> {
    json_list(text).unwrap_or_else(|| {
        SHELL
            .iter()
            .map(|part| (*part).to_owned())
            .chain([text.to_owned()])
            .collect()
    })
}

/// Splits at white space outside quotes; quotes and backslashes are undone.
fn words(text: &str) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (None | Some('"'), '\\') => {
                word.get_or_insert_default().extend(letters.next());
            }
            (None, '"' | '\'') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (Some(open), letter) if letter == open => quote = None,
            (None, letter) if letter.is_whitespace() => words.extend(word.take()),
            (_, letter) => word.get_or_insert_default().push(letter),
        }
    }
    if quote.is_some() {
        return Err(Error::invalid(format!(
            "unexpected end of statement while looking for matching quote in {text:?}"
        )));
    }
    words.extend(word);
    Ok(words)
}

/// `K=V …`, or the old `K V` where the first word has no `=`.
fn pairs(word: &str, rest: &str) -> Result<Vec<(String, String)>> {
    let first = rest.split_whitespace().next().unwrap_or_default();
    if !first.contains('=') {
        return match rest.split_once(char::is_whitespace) {
            Some((key, value)) => Ok(vec![(key.into(), value.trim().into())]),
            None => Err(Error::invalid(format!("{word} must have two arguments"))),
        };
    }
    let mut pairs = Vec::new();
    for pair in words(rest)? {
        match pair.split_once('=') {
            Some(("", _)) => return Err(Error::invalid(format!("{word} names can not be blank"))),
            Some((key, value)) => pairs.push((key.to_owned(), value.to_owned())),
            None => {
                return Err(Error::invalid(format!(
                    "Syntax error - can't find = in {pair:?}. Must be of the form: name=value"
                )));
            }
        }
    }
    Ok(pairs)
}

/// `80`, `80/udp`, `8000-8010/tcp`.
fn expose(item: &str, config: &mut ContainerDefaults) -> Result<()> {
    let wrong = || Error::invalid(format!("Invalid containerPort: {item}"));
    let (ports, protocol) = item.split_once('/').unwrap_or((item, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(Error::invalid(format!("Invalid proto: {protocol}")));
    }
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let number = |text: &str| text.parse::<u32>().ok().filter(|port| *port <= PORTS_MAX);
    let (first, last) = number(first).zip(number(last)).ok_or_else(wrong)?;
    if first > last {
        return Err(wrong());
    }
    config
        .exposed_ports
        .extend((first..=last).map(|port| (format!("{port}/{protocol}"), Empty {})));
    Ok(())
}

/// A relative folder continues the one before.
fn working_dir(before: &str, path: &str) -> String {
    let joined = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("{before}/{path}")
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in joined.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

fn healthcheck(text: &str) -> Result<Healthcheck> {
    let mut check = Healthcheck::default();
    let mut rest = text;
    while let Some(flag) = rest.strip_prefix("--") {
        let (flag, after) = flag.split_once(char::is_whitespace).unwrap_or((flag, ""));
        let (name, value) = flag.split_once('=').unwrap_or((flag, ""));
        match name {
            "interval" => check.interval = duration(value)?,
            "timeout" => check.timeout = duration(value)?,
            "start-period" => check.start_period = duration(value)?,
            "start-interval" => check.start_interval = duration(value)?,
            "retries" => {
                let retries = value.parse::<i64>().ok().filter(|retries| *retries >= 0);
                check.retries = retries.ok_or_else(|| {
                    Error::invalid(format!("--retries must be at least 1 (not {value})"))
                })?;
            }
            _ => return Err(Error::invalid(format!("unknown flag: --{name}"))),
        }
        rest = after.trim_start();
    }
    let (word, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let rest = rest.trim();
    check.test = match word.to_ascii_uppercase().as_str() {
        "NONE" if rest.is_empty() => vec!["NONE".into()],
        "CMD" if !rest.is_empty() => match json_list(rest) {
            Some(list) => [vec!["CMD".to_owned()], list].concat(),
            None => vec!["CMD-SHELL".into(), rest.into()],
        },
        "CMD" => return Err(Error::invalid("missing command after HEALTHCHECK CMD")),
        other => {
            return Err(Error::invalid(format!(
                "Unknown type {other:?} in HEALTHCHECK (try CMD)"
            )));
        }
    };
    Ok(check)
}

/// Go's durations (`1m30s`, `500ms`) in nanoseconds.
fn duration(text: &str) -> Result<i64> {
    let wrong = || Error::invalid(format!("time: invalid duration {text:?}"));
    let mut total = 0_f64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(wrong)?;
        let (number, after) = rest.split_at(digits);
        let unit_end = after
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let nanos = match unit {
            "ns" => 1e0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return Err(wrong()),
        };
        total += number.parse::<f64>().map_err(|_| wrong())? * nanos;
        rest = after;
    }
    if text.is_empty() || !(0.0..9e18).contains(&total) {
        return Err(wrong());
    }
    #[expect(clippy::cast_possible_truncation, reason = "the range was checked")]
    let nanos = total as i64;
    Ok(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(lines: &[&str]) -> Result<ContainerDefaults> {
        let mut config = ContainerDefaults::default();
        for line in lines {
            apply(line, &mut config)?;
        }
        Ok(config)
    }

    #[test]
    fn lines_mean_what_they_mean_in_a_dockerfile() {
        let config = applied(&[
            "CMD echo hi",
            r#"ENTRYPOINT ["/bin/a", "b c"]"#,
            "ENV A=1 B=\"two words\" C='x'",
            "env OLD style value",
            "ENV A=2",
            "EXPOSE 80 53/udp 8000-8002",
            "LABEL a.b=c",
            "USER 1000:1000",
            "WORKDIR /srv",
            "WORKDIR app/../web",
            r#"VOLUME ["/data", "/log"]"#,
            "STOPSIGNAL SIGINT",
            "HEALTHCHECK --interval=1m30s --retries=2 CMD curl x",
        ])
        .unwrap();
        assert_eq!(config.cmd.unwrap(), ["/bin/sh", "-c", "echo hi"]);
        assert_eq!(config.entrypoint.unwrap(), ["/bin/a", "b c"]);
        assert_eq!(config.env, ["B=two words", "C=x", "OLD=style value", "A=2"]);
        let ports: Vec<&String> = config.exposed_ports.keys().collect();
        assert_eq!(
            ports,
            ["53/udp", "80/tcp", "8000/tcp", "8001/tcp", "8002/tcp"]
        );
        assert_eq!(config.labels["a.b"], "c");
        assert_eq!(
            (config.user.as_str(), config.working_dir.as_str()),
            ("1000:1000", "/srv/web")
        );
        assert_eq!(config.volumes.len(), 2);
        assert_eq!(config.stop_signal, "SIGINT");
        let check = config.healthcheck.unwrap();
        assert_eq!((check.interval, check.retries), (90_000_000_000, 2));
        assert_eq!(check.test, ["CMD-SHELL", "curl x"]);
    }

    #[test]
    fn wrong_lines_are_refused() {
        for (line, part) in [
            ("RUN x", "RUN is not a valid change command"),
            ("CMD", "requires at least one argument"),
            ("EXPOSE x", "Invalid containerPort: x"),
            ("EXPOSE 80/icmp", "Invalid proto"),
            ("EXPOSE 70000", "Invalid containerPort"),
            ("ENV A=\"x", "matching quote"),
            ("ENV A=1 B", "can't find ="),
            ("ENV A", "two arguments"),
            ("HEALTHCHECK TCP x", "Unknown type"),
            ("HEALTHCHECK --interval=x CMD y", "invalid duration"),
        ] {
            let refused = applied(&[line]).expect_err(line);
            assert!(refused.message.contains(part), "{line}: {refused}");
        }
    }
}
