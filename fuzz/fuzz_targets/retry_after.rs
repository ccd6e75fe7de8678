#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| orderwright::fuzzing::throw("retry_after", bytes));
