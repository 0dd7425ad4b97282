//! Whatever bytes are in nkudo.toml, reading it ends in a host or in reasons why not.
//!
//! A NUL divides the bytes into the files of one configuration.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/answered/mod.rs"]
mod answered;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    let texts: Vec<String> = text.split('\0').map(str::to_owned).collect();
    answered::is_answered(&texts);
});
