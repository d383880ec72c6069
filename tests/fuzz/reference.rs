//! Any text as an image reference, a digest, a platform: refused, or read and
//! written back as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skep_images::{Digest, Platform, Reference};

fuzz_target!(|text: &str| {
    if let Ok(reference) = text.parse::<Reference>() {
        let written = reference.to_string();
        let again: Reference = written.parse().expect("what was written can be read");
        assert_eq!(again, reference, "{text} was written as {written}");
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
    }
    drop(text.parse::<Platform>());
});
