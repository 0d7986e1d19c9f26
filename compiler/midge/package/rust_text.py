# SPDX-License-Identifier: Apache-2.0
"""Texts of the Rust crate; <<word>> is filled in. A pair is a function of the C library as Rust declares it, and the method that calls it."""

from __future__ import annotations

CARGO = """\
[package]
name = "<<slug>>"
version = "<<version>>"
edition = "2021"
license = "<<licence>>"
description = "<<summary>>"
readme = "README.md"
build = "build.rs"
links = "midge_<<name>>"
publish = false
autobins = false
autoexamples = false
autotests = false
autobenches = false

[lib]
name = "<<crate>>"
path = "rust/lib.rs"

[[example]]
name = "run"
path = "examples/rust/main.rs"

# Keeps the crate out of a workspace it may lie in.
[workspace]
"""

BUILD = """\
//! Compiles the C sources with $CC (for this machine by default cc, for another <<cross>>gcc) and $CFLAGS.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCES: &[&str] = &[
<<sources>>
];
/// Flags of <<target>>, taken when compiling for a machine without an operating system.
const TARGET_FLAGS: &[&str] = &[<<flag_list>>];

/// A variable's words; a file's name is one, whatever blanks it has.
fn words(name: &str, default: &str) -> Vec<String> {
    println!("cargo:rerun-if-env-changed={}", name);
    let text = env::var(name).unwrap_or_else(|_| default.to_string());
    if Path::new(&text).is_file() {
        return vec![text];
    }
    text.split_whitespace().map(str::to_string).collect()
}

fn fail(message: String) -> ! {
    eprintln!("error: {}", message);
    std::process::exit(1)
}

fn run(command: &mut Command) {
    match command.status() {
        Ok(status) if status.success() => {}
        Ok(status) => fail(format!("{:?} failed: {}", command, status)),
        Err(error) => fail(format!("{:?} cannot be run: {}; set CC and AR to programs that can", command.get_program(), error)),
    }
}

fn tool(words: &[String]) -> Command {
    let mut command = Command::new(words.first().unwrap_or_else(|| fail("CC or AR is set, but empty".to_string())));
    command.args(&words[1..]);
    command
}

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let (target, host) = (env::var("TARGET").unwrap(), env::var("HOST").unwrap());
    let bare = target != host && target.contains("-none");
    let compiler = words("CC", if bare { "<<cross>>gcc" } else { "cc" });
    let archiver = words("AR", if bare { "<<cross>>ar" } else { "ar" });
    let archive = out.join("libmidge_<<name>>.a");
    let _ = std::fs::remove_file(&archive);
    let mut objects = Vec::new();
    for source in SOURCES {
        let object = out.join(Path::new(source).with_extension("o").file_name().unwrap());
        let mut command = tool(&compiler);
        command.args(["-c", "-std=c99", "-O2", "-ffunction-sections", "-fdata-sections", "-Isrc"]);
        if bare {
            command.args(TARGET_FLAGS);
        } else {
            command.arg("-fPIC");
        }
        run(command.args(words("CFLAGS", "")).arg(source).arg("-o").arg(&object));
        objects.push(object);
    }
    run(tool(&archiver).arg("rcs").arg(&archive).args(&objects));
    println!("cargo:rerun-if-changed=src");
    println!("cargo:rustc-link-search=native={}", out.display());
    println!("cargo:rustc-link-lib=static=midge_<<name>>");
}
"""

LIB = """\
//! <<summary>>.
//!
//! Model <<digest>>.
#![no_std]

use core::fmt;

pub const ARENA_BYTES: usize = <<arena_bytes>>;
<<constants>>

extern "C" {
<<imports>>
}

/// A negative error code of the C library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error(pub i32);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<<name>>: error {}", self.0)
    }
}

fn checked(code: i32) -> Result<usize, Error> {
    if code < 0 {
        Err(Error(code))
    } else {
        Ok(code as usize)
    }
}

/// One instance: the arena that holds inputs, outputs and everything in between.
#[repr(C, align(<<align>>))]
pub struct Model {
    arena: [u8; ARENA_BYTES],
}

impl Default for Model {
    fn default() -> Self {
        Self::new()
    }
}

impl Model {
    /// May be a `static`: no code runs.
    pub const fn new() -> Self {
        Model { arena: [0; ARENA_BYTES] }
    }

<<methods>>
}
"""

INPUT = """\
    /// Where to write the input; a run consumes it.
    pub fn <<port>>(&mut self) -> &mut [<<T>>] {
        // The library returns an aligned place of that many elements inside the arena.
        unsafe { core::slice::from_raw_parts_mut(<<name>>_input_<<i>>(self.arena.as_mut_ptr()), <<PORT>>_LEN) }
    }
"""

OUTPUT = """\
    /// The output of the last run, until an input is written.
    pub fn <<port>>(&self) -> &[<<T>>] {
        unsafe { core::slice::from_raw_parts(<<name>>_output_<<i>>(self.arena.as_ptr()), <<PORT>>_LEN) }
    }
"""

RUN = (
    (
        "fn <<name>>_run(arena: *mut u8) -> i32;",
        """\
    /// One inference.
    pub fn run(&mut self) -> Result<(), Error> {
        checked(unsafe { <<name>>_run(self.arena.as_mut_ptr()) }).map(|_| ())
    }
""",
    ),
)

BEGIN = (
    "fn <<name>>_begin(arena: *mut u8) -> i32;",
    """\
    /// Starts one inference; returns how many rows or steps it takes.
    pub fn begin(&mut self) -> Result<usize, Error> {
        checked(unsafe { <<name>>_begin(self.arena.as_mut_ptr()) })
    }
""",
)

STEP = (
    BEGIN,
    (
        "fn <<name>>_step(arena: *mut u8, budget: u32) -> i32;",
        """\
    /// Runs at most `budget` steps; returns how many are left.
    pub fn step(&mut self, budget: u32) -> Result<usize, Error> {
        checked(unsafe { <<name>>_step(self.arena.as_mut_ptr(), budget) })
    }
""",
    ),
)

STREAM = (
    BEGIN,
    (
        "fn <<name>>_push_rows(arena: *mut u8, rows: *const <<T>>, count: u32) -> i32;",
        """\
    /// Takes whole rows of INPUT_ROW elements; returns how many more are wanted.
    pub fn push_rows(&mut self, rows: &[<<T>>]) -> Result<usize, Error> {
        if rows.len() % INPUT_ROW != 0 {
            return Err(Error(-3));
        }
        let count = (rows.len() / INPUT_ROW) as u32;
        checked(unsafe { <<name>>_push_rows(self.arena.as_mut_ptr(), rows.as_ptr(), count) })
    }
""",
    ),
    (
        "fn <<name>>_finish(arena: *mut u8) -> i32;",
        """\
    /// Ends the inference; the output can be read.
    pub fn finish(&mut self) -> Result<(), Error> {
        checked(unsafe { <<name>>_finish(self.arena.as_mut_ptr()) }).map(|_| ())
    }
""",
    ),
)

MAIN = """\
//! Runs the network once on an input of zeros and prints what comes out.
use <<crate>> as model;

fn main() -> Result<(), model::Error> {
    let mut net = Box::new(model::Model::new());
<<fill>>
<<run>>
<<print>>
    Ok(())
}
"""

RUN_STREAM = """\
    let mut wanted = net.begin()?;
    while wanted > 0 {
        wanted = net.push_rows(&row)?;
    }
    net.finish()?;"""

RUN_STEP = """\
    let mut left = net.begin()?;
    while left > 0 {
        left = net.step(1)?;
    }"""
