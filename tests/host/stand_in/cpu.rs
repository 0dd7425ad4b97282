//! The guest: its ELF file in memory, and a vCPU for the few instructions that `guest` assembles.

use std::io::Write;

use serde_json::{Value, json};

use super::super::guest::{AWAIT_BUTTON, ECHO, PANIC, pressed};
use super::Chain;

/// What a run of the vCPU led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// It waits for an interrupt.
    Idle,
    PoweredOff,
    Reset,
    /// It wrote to its pvpanic device, and goes on.
    Panicked,
    /// It came to an instruction, or to memory, that is none.
    Failed,
}

#[derive(Debug, Clone)]
pub(super) struct Cpu {
    segments: Vec<(u32, Vec<u8>)>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It goes on at this address.
    Runs(u32),
    /// It prints whatever is typed.
    Echoes,
    /// Halted. The power button's interrupt leads to this address, if to any.
    Halted(Option<u32>),
}

impl Cpu {
    /// Loads a kernel by its PVH note. Other kernels are none here.
    pub(super) fn boot(image: &[u8]) -> Result<Self, Chain> {
        // The real one tries an ELF file first, then a bzImage.
        let none = "Kernel Loader: Invalid bzImage";
        let elf = Elf::of(image).ok_or_else(|| {
            Chain::boot([
                "Cannot load the kernel into memory",
                &format!("Kernel Loader: failed to load bzImage kernel image: {none}"),
                none,
            ])
        })?;
        let entry = elf
            .entry
            .ok_or_else(|| Chain::boot(["Kernel lacks PVH header"]))?;
        Ok(Self {
            segments: elf.segments,
            state: State::Runs(entry),
        })
    }

    /// What is in memory, by address.
    pub(super) fn memory(&self) -> impl Iterator<Item = (u32, &[u8])> {
        let segments = self.segments.iter();
        segments.map(|(address, bytes)| (*address, bytes.as_slice()))
    }

    /// Where it is, for `restored`.
    pub(super) fn registers(&self) -> Value {
        match self.state {
            State::Runs(at) => json!({ "runs": at }),
            State::Echoes => json!("echoes"),
            State::Halted(at) => json!({ "halted": at }),
        }
    }

    pub(super) fn restored(segments: Vec<(u32, Vec<u8>)>, registers: &Value) -> Self {
        let address = |value: &Value| value.as_u64().and_then(|at| u32::try_from(at).ok());
        let state = if registers == "echoes" {
            State::Echoes
        } else if let Some(at) = address(&registers["runs"]) {
            State::Runs(at)
        } else {
            State::Halted(address(&registers["halted"]))
        };
        Self { segments, state }
    }

    /// That of a VM that was shut down.
    pub(super) fn absent() -> Self {
        Self {
            segments: Vec::new(),
            state: State::Halted(None),
        }
    }

    pub(super) fn echoes(&self) -> bool {
        self.state == State::Echoes
    }

    pub(super) fn press_power_button(&mut self) {
        if let State::Halted(Some(at)) = self.state {
            self.state = State::Runs(at);
        }
    }

    /// Runs until there is something to do for the VMM.
    pub(super) fn run(&mut self, serial: &mut dyn Write) -> Event {
        loop {
            let State::Runs(at) = self.state else {
                let _ = serial.flush();
                return Event::Idle;
            };
            match self.code(at) {
                // mov dx, port; mov al, byte; out dx, al
                [0x66, 0xba, low, high, 0xb0, byte, 0xee, ..] => {
                    let port = u16::from_le_bytes([*low, *high]);
                    let event = match (port, byte) {
                        (0x3f8, byte) => {
                            // As on a real machine: nobody reads it, and nothing happens.
                            let _ = serial.write_all(&[*byte]);
                            None
                        }
                        (0x600, 0x34) => Some(Event::PoweredOff),
                        (0x64, 0xfe) => Some(Event::Reset),
                        _ => Some(Event::Failed),
                    };
                    if let Some(event) = event {
                        let _ = serial.flush();
                        return event;
                    }
                    self.state = State::Runs(at + 7);
                }
                // mov eax, address; jmp eax
                [0xb8, a, b, c, d, 0xff, 0xe0, ..] => {
                    self.state = State::Runs(u32::from_le_bytes([*a, *b, *c, *d]));
                }
                code if code.starts_with(&AWAIT_BUTTON) => {
                    self.state = State::Halted(Some(pressed()));
                }
                code if code.starts_with(&PANIC) => {
                    let length = u32::try_from(PANIC.len()).expect("a few bytes");
                    self.state = State::Runs(at + length);
                    return Event::Panicked;
                }
                code if code.starts_with(&ECHO) => self.state = State::Echoes,
                // hlt
                [0xf4, ..] => self.state = State::Halted(None),
                _ => {
                    let _ = serial.flush();
                    return Event::Failed;
                }
            }
        }
    }

    /// What is in memory from an address on; nothing where nothing is mapped.
    fn code(&self, at: u32) -> &[u8] {
        self.segments
            .iter()
            .find_map(|(address, bytes)| {
                let offset = at.checked_sub(*address)?;
                bytes.get(usize::try_from(offset).ok()?..)
            })
            .unwrap_or(&[])
    }
}

/// An ELF file for x86-64, as far as PVH boot needs it.
struct Elf {
    segments: Vec<(u32, Vec<u8>)>,
    entry: Option<u32>,
}

impl Elf {
    fn of(image: &[u8]) -> Option<Self> {
        if !image.starts_with(b"\x7fELF\x02\x01\x01") || half(image, 18)? != 62 {
            return None;
        }
        let mut elf = Self {
            segments: Vec::new(),
            entry: None,
        };
        let headers = usize::try_from(quad(image, 32)?).ok()?;
        let (size, count) = (usize::from(half(image, 54)?), usize::from(half(image, 56)?));
        for index in 0..count {
            let header = image.get(headers + index * size..)?;
            let offset = usize::try_from(quad(header, 8)?).ok()?;
            let length = usize::try_from(quad(header, 32)?).ok()?;
            let content = image.get(offset..offset.checked_add(length)?)?;
            match word(header, 0)? {
                // PT_LOAD
                1 => {
                    let address = u32::try_from(quad(header, 24)?).ok()?;
                    elf.segments.push((address, content.to_vec()));
                }
                // PT_NOTE: XEN_ELFNOTE_PHYS32_ENTRY, of the owner "Xen"
                4 if word(content, 8)? == 18 && content.get(12..16)? == b"Xen\0" => {
                    elf.entry = Some(word(content, 16)?);
                }
                _ => {}
            }
        }
        Some(elf)
    }
}

fn bytes<const N: usize>(from: &[u8], at: usize) -> Option<[u8; N]> {
    from.get(at..)?.first_chunk().copied()
}

fn half(from: &[u8], at: usize) -> Option<u16> {
    bytes(from, at).map(u16::from_le_bytes)
}

fn word(from: &[u8], at: usize) -> Option<u32> {
    bytes(from, at).map(u32::from_le_bytes)
}

fn quad(from: &[u8], at: usize) -> Option<u64> {
    bytes(from, at).map(u64::from_le_bytes)
}
