//! Any bytes as an image's configuration: refused, or read without a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skep_images::ImageConfig;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(config) = ImageConfig::parse(bytes) {
        drop(config.platform());
    }
});
