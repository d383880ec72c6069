//! Gives the program the time it was built at: a board whose clock says 1970
//! knows that it is later than that.

use std::time::{SystemTime, UNIX_EPOCH};

fn main() {
    // Reproducible builds name their time; else it is taken once per build
    // folder, for a lower bound need not be sharp.
    println!("cargo:rerun-if-env-changed=SOURCE_DATE_EPOCH");
    let named = std::env::var("SOURCE_DATE_EPOCH").ok();
    let seconds = named.and_then(|text| text.parse().ok()).unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.map_or(0, |since| since.as_secs())
    });
    println!("cargo:rustc-env=SKEP_BUILD_TIME={seconds}");
}
