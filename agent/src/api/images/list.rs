//! `GET /images/json` and the images' part of `system df`.

use super::{ask, shape};
use crate::api::call::Call;
use crate::api::filters::Filters;
use crate::api::reply::{self, Reply};
use crate::api::time;
use crate::backend::Backend;
use crate::error::{Error, Result};
use regex::Regex;
use serde_json::{Value, json};
use skep_control::model::WallTime;
use skep_images::{Image, Reference, Store, Summary};

const FILTERS: &[&str] = &[
    "before",
    "dangling",
    "label",
    "label!",
    "reference",
    "since",
    "until",
];
/// Of images this API version shows to those that name none.
const NEWEST: u16 = 51;

pub(super) async fn list<B: Backend>(call: Call<B>) -> Result<Reply> {
    let filters = call.filters(FILTERS)?;
    let shared = call.query.flag("shared-size");
    let version = call.version;
    let wanted = Wanted::parse(&filters)?;
    let images = ask(&call.node, move |store| {
        let bounds = wanted.bounds(store, &filters)?;
        let mut shown = Vec::new();
        for summary in store.list()? {
            if let Some(tags) = wanted.tags(&summary.image, &filters, bounds) {
                shown.push(shape::summary(&summary, &tags, shared, None, version));
            }
        }
        Ok(shown)
    })
    .await?;
    Ok(reply::json(&images))
}

/// The filters that need more than a look.
struct Wanted {
    dangling: Option<bool>,
    until: Option<WallTime>,
    patterns: Vec<Regex>,
}

/// Images made before and after others.
#[derive(Clone, Copy, Default)]
struct Bounds {
    before: Option<WallTime>,
    since: Option<WallTime>,
}

impl Wanted {
    fn parse(filters: &Filters) -> Result<Self> {
        let until = match filters.values("until") {
            [] => None,
            [one, ..] => Some(time::until(one, time::now())?),
        };
        let patterns = filters.values("reference").iter().map(|text| glob(text));
        Ok(Self {
            dangling: filters.flag("dangling")?,
            until,
            patterns: patterns.collect::<Result<_>>()?,
        })
    }

    fn bounds(&self, store: &Store, filters: &Filters) -> skep_images::Result<Bounds> {
        let of = |key: &str| match filters.values(key).first() {
            None => Ok(None),
            Some(name) => store
                .resolve(name, None)
                .map(|image| Some(shape::created(&image))),
        };
        Ok(Bounds {
            before: of("before")?,
            since: of("since")?,
        })
    }

    /// The names to show of an image; `None` hides it.
    fn tags(&self, image: &Image, filters: &Filters, bounds: Bounds) -> Option<Vec<String>> {
        let created = shape::created(image);
        let labels = &image.config.config.labels;
        let is_wanted = self
            .dangling
            .is_none_or(|d| d == image.repo_tags.is_empty())
            && self.until.is_none_or(|until| created < until)
            && bounds.before.is_none_or(|before| created < before)
            && bounds.since.is_none_or(|since| created > since)
            && filters.labels("label", labels)
            && filters.no_labels("label!", labels);
        if !is_wanted {
            return None;
        }
        if self.patterns.is_empty() {
            return Some(image.repo_tags.clone());
        }
        let matching = |name: &&String| self.matches(name);
        let tags: Vec<String> = image.repo_tags.iter().filter(matching).cloned().collect();
        (!tags.is_empty()).then_some(tags)
    }

    fn matches(&self, name: &str) -> bool {
        let repository = name
            .parse::<Reference>()
            .map_or(String::new(), |name| name.familiar_repository());
        self.patterns
            .iter()
            .any(|p| p.is_match(name) || p.is_match(&repository))
    }
}

/// Go's `path.Match`, which Docker compares names by. A pattern that is a
/// whole name means its familiar form.
fn glob(text: &str) -> Result<Regex> {
    let familiar = text.parse::<Reference>().map(|name| name.familiar());
    let text = familiar.as_deref().unwrap_or(text);
    let wrong = || {
        Error::invalid(format!(
            "invalid filter 'reference={text}': syntax error in pattern"
        ))
    };
    let mut pattern = String::from("^");
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '*' => pattern += "[^/]*",
            '?' => pattern += "[^/]",
            '\\' => pattern += &regex::escape(&letters.next().ok_or_else(wrong)?.to_string()),
            '[' => {
                let class: String = letters
                    .by_ref()
                    .take_while(|letter| *letter != ']')
                    .collect();
                let (not, class) = class
                    .strip_prefix('^')
                    .map_or(("", class.as_str()), |c| ("^", c));
                let class = class.replace(['[', '&', '~', '\\'], "");
                pattern += &format!("[{not}{class}]");
            }
            letter => pattern += &regex::escape(&letter.to_string()),
        }
    }
    Regex::new(&(pattern + "$")).map_err(|_| wrong())
}

/// The images' members of `system df`.
pub(in crate::api) async fn disk_usage<B: Backend>(node: &B) -> Result<Value> {
    let uses = node.image_uses().await;
    let usage = ask(node, Store::disk_usage).await?;
    let users = |image: &Image| uses.iter().filter(|one| one.image == image.id).count();
    let shown = |one: &Summary| {
        let (tags, users) = (&one.image.repo_tags, users(&one.image));
        shape::summary(one, tags, true, Some(users), NEWEST)
    };
    let images: Vec<Value> = usage.images.iter().map(shown).collect();
    Ok(json!({"LayersSize": usage.layers_size, "Images": images}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_go_paths_do() {
        let matches = |pattern: &str, name: &str| {
            let wanted = Wanted {
                dangling: None,
                until: None,
                patterns: vec![glob(pattern).unwrap()],
            };
            wanted.matches(name)
        };
        for (pattern, name, is_match) in [
            ("redis", "redis:7", true),
            ("docker.io/library/redis", "redis:7", true),
            ("redis:7", "redis:7", true),
            ("redis:8", "redis:7", false),
            ("red*", "redis:7", true),
            ("*/app", "team/app:1", true),
            ("*", "team/app:1", false),
            ("*:7", "redis:7", true),
            ("redi?", "redis:7", true),
            ("red[a-k]s", "redis:7", true),
            ("red[^i]s", "redis:7", false),
            ("re.is", "redis:7", false),
        ] {
            assert_eq!(matches(pattern, name), is_match, "{pattern} {name}");
        }
        assert!(glob("a\\").is_err() && glob("[z-a]").is_err());
    }
}
