//! rprof: a sampling profiler for Linux.
//!
//! Data flows one way, and a module may use only those before it:
//! `health · ids · text · when · elf · sys → record → capture → process → unwind → runtime → collect → symbol → profile → encode → store → web → session → cli`.
//! docs/architecture.md tells what each holds.

pub mod capture;
pub mod cli;
pub mod collect;
pub mod elf;
pub mod encode;
pub mod health;
pub mod ids;
pub mod process;
pub mod profile;
pub mod record;
pub mod runtime;
pub mod session;
pub mod store;
pub mod symbol;
pub mod sys;
pub mod text;
pub mod unwind;
pub mod web;
pub mod when;
