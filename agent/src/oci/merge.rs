//! What the image says and the user did not: Docker's rules, field by field.

use skep_control::model::Config;

/// Merges the image's configuration into the user's.
pub(crate) fn merge(user: &mut Config, image: &Config) {
    if user.user.is_empty() {
        user.user.clone_from(&image.user);
    }
    for (port, empty) in &image.exposed_ports {
        user.exposed_ports.entry(port.clone()).or_insert(*empty);
    }
    merge_env(&mut user.env, &image.env);
    for (key, value) in &image.labels {
        user.labels
            .entry(key.clone())
            .or_insert_with(|| value.clone());
    }
    merge_command(user, image);
    if let Some(theirs) = &image.healthcheck {
        let ours = user.healthcheck.get_or_insert_default();
        if ours.test.is_empty() {
            ours.test.clone_from(&theirs.test);
        }
        for (mine, other) in [
            (&mut ours.interval, theirs.interval),
            (&mut ours.timeout, theirs.timeout),
            (&mut ours.start_period, theirs.start_period),
            (&mut ours.start_interval, theirs.start_interval),
            (&mut ours.retries, theirs.retries),
        ] {
            if *mine == 0 {
                *mine = other;
            }
        }
    }
    if user.working_dir.is_empty() {
        user.working_dir.clone_from(&image.working_dir);
    }
    for (path, empty) in &image.volumes {
        user.volumes.entry(path.clone()).or_insert(*empty);
    }
    if user.stop_signal.is_empty() {
        user.stop_signal.clone_from(&image.stop_signal);
    }
    if user.shell.is_empty() {
        user.shell.clone_from(&image.shell);
    }
}

/// The image's variables come first; the user's replace those of their name.
fn merge_env(user: &mut Vec<String>, image: &[String]) {
    let key = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
    let inherited = image
        .iter()
        .filter(|theirs| !user.iter().any(|ours| key(ours) == key(theirs)))
        .cloned();
    let mut merged: Vec<String> = user.clone();
    merged.extend(inherited);
    *user = merged;
}

/// An entrypoint of the user's own takes no command from the image; an empty
/// string as the only entrypoint clears the image's.
fn merge_command(user: &mut Config, image: &Config) {
    let given = |argv: &Option<skep_control::model::Argv>| {
        argv.as_ref().is_some_and(|argv| !argv.0.is_empty())
    };
    if given(&user.entrypoint) {
        if let Some(argv) = &mut user.entrypoint
            && argv.0.iter().all(String::is_empty)
        {
            argv.0.clear();
        }
        return;
    }
    if !given(&user.cmd) {
        user.cmd.clone_from(&image.cmd);
    }
    if user.entrypoint.is_none() {
        user.entrypoint.clone_from(&image.entrypoint);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_control::model::{Argv, HealthConfig};

    fn argv(words: &[&str]) -> Option<Argv> {
        Some(Argv(words.iter().map(|w| (*w).to_owned()).collect()))
    }

    fn image() -> Config {
        Config {
            entrypoint: argv(&["/entry"]),
            cmd: argv(&["serve"]),
            env: vec!["PATH=/bin".to_owned(), "MODE=image".to_owned()],
            user: "web".to_owned(),
            working_dir: "/srv".to_owned(),
            healthcheck: Some(HealthConfig {
                test: vec!["CMD".to_owned(), "ok".to_owned()],
                retries: 3,
                ..HealthConfig::default()
            }),
            ..Config::default()
        }
    }

    #[test]
    fn a_silent_user_gets_the_image() {
        let mut user = Config::default();
        merge(&mut user, &image());
        assert_eq!(user.entrypoint, argv(&["/entry"]));
        assert_eq!(user.cmd, argv(&["serve"]));
        assert_eq!(user.user, "web");
        assert_eq!(user.working_dir, "/srv");
        assert_eq!(user.env, ["PATH=/bin", "MODE=image"]);
    }

    #[test]
    fn a_users_words_win() {
        let mut user = Config {
            cmd: argv(&["shell"]),
            env: vec!["MODE=user".to_owned()],
            healthcheck: Some(HealthConfig {
                retries: 9,
                ..HealthConfig::default()
            }),
            ..Config::default()
        };
        merge(&mut user, &image());
        assert_eq!(user.entrypoint, argv(&["/entry"]));
        assert_eq!(user.cmd, argv(&["shell"]));
        assert_eq!(user.env, ["MODE=user", "PATH=/bin"]);
        let health = user.healthcheck.unwrap();
        assert_eq!((health.retries, health.test.len()), (9, 2));

        let mut user = Config {
            entrypoint: argv(&["/mine"]),
            ..Config::default()
        };
        merge(&mut user, &image());
        assert_eq!((user.entrypoint, user.cmd), (argv(&["/mine"]), None));

        let mut user = Config {
            entrypoint: argv(&[""]),
            cmd: argv(&["sh"]),
            ..Config::default()
        };
        merge(&mut user, &image());
        assert_eq!((user.entrypoint, user.cmd), (argv(&[]), argv(&["sh"])));
    }
}
