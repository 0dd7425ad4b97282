//! Guests of a few instructions: they print one line on the serial port and then end as asked.
//!
//! They boot by PVH in milliseconds, also where an ordinary Linux guest makes no progress.

/// Where the guest is loaded; its file is one segment, headers included.
const BASE: u32 = 0x0010_0000;
/// Where the code begins in the file.
const CODE: usize = 0x200;
/// The size of the file.
const SIZE: usize = 0x1000;
const EHDR: u16 = 64;
const PHDR: u16 = 56;

/// Waits until any interrupt line is raised, of which the only one here is that of the Generic Event
/// Device (ACPI 5.6.9): cloud-hypervisor raises it for the power button. Interrupts stay disabled; the
/// local APIC's request register shows what came in.
pub(crate) const AWAIT_INTERRUPT: [u8; 41] = [
    0xbf, 0xf0, 0x00, 0xe0,
    0xfe, // mov edi, 0xfee000f0: the local APIC's spurious vector register
    0xc7, 0x07, 0xff, 0x01, 0x00, 0x00, // mov dword [edi], 0x1ff: enable it
    0xbf, 0x00, 0x00, 0xc0, 0xfe, // mov edi, 0xfec00000: the I/O APIC
    0xb9, 0x17, 0x00, 0x00, 0x00, // mov ecx, 23: its last pin
    // For every pin: vector 0x40 + pin, edge, not masked.
    0x8d, 0x44, 0x09, 0x10, // lea eax, [ecx + ecx + 0x10]
    0x89, 0x07, // mov [edi], eax
    0x8d, 0x41, 0x40, // lea eax, [ecx + 0x40]
    0x89, 0x47, 0x10, // mov [edi + 0x10], eax
    0x49, // dec ecx
    0x79, 0xf1, // jns: the next pin
    0xa1, 0x20, 0x02, 0xe0, 0xfe, // mov eax, [0xfee00220]: requests of vectors 0x40 to 0x5f
];
/// The rest of that: look again until there is one.
pub(crate) const AWAIT_AGAIN: [u8; 6] = [
    0x85, 0xc0, // test eax, eax
    0xf3, 0x90, // pause
    0x74, 0xf5, // jz: look again
];

/// What a guest does after its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// Stays up and does nothing.
    Halt,
    /// Powers off by ACPI.
    PowerOff,
    /// Powers off when the ACPI power button is pressed.
    PowerOffWhenAsked,
    /// Resets by the keyboard controller, which boots it again.
    Reset,
    /// Jumps to where nothing is mapped, which the VMM cannot emulate.
    Crash,
}

/// A guest to assemble.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guest<'a> {
    /// What it prints, without the line end.
    pub(crate) line: &'a str,
    /// What it does then.
    pub(crate) then: Then,
}

impl Guest<'_> {
    /// The guest as an ELF file for `--kernel`.
    pub(crate) fn elf(&self) -> Vec<u8> {
        let entry = BASE + 0x200;
        let note_at = usize::from(EHDR + 2 * PHDR);
        let note = note(entry);
        let mut file = header(entry);
        // One LOAD segment, readable, writable and executable; then the note.
        file.extend(program_header(1, 7, 0, SIZE, 0x1000));
        file.extend(program_header(4, 4, note_at, note.len(), 4));
        file.extend(note);
        assert!(file.len() <= CODE, "the headers do not reach into the code");
        file.resize(CODE, 0);
        file.extend(self.code());
        assert!(
            file.len() <= SIZE,
            "the line is too long for the guest's one page"
        );
        file.resize(SIZE, 0);
        file
    }

    fn code(&self) -> Vec<u8> {
        let mut code = Vec::new();
        for byte in self.line.bytes().chain([b'\n']) {
            out(&mut code, 0x3f8, byte);
        }
        match self.then {
            Then::Halt => {}
            Then::PowerOff => out(&mut code, 0x600, 0x34),
            Then::PowerOffWhenAsked => {
                code.extend(AWAIT_INTERRUPT);
                code.extend(AWAIT_AGAIN);
                out(&mut code, 0x600, 0x34);
            }
            Then::Reset => out(&mut code, 0x64, 0xfe),
            Then::Crash => {
                // mov eax, 0xd0000000; jmp eax
                code.push(0xb8);
                code.extend(0xd000_0000_u32.to_le_bytes());
                code.extend([0xff, 0xe0]);
            }
        }
        // hlt; jmp back to it
        code.extend([0xf4, 0xeb, 0xfd]);
        code
    }
}

/// mov dx, port (16-bit operand); mov al, byte; out dx, al
fn out(code: &mut Vec<u8>, port: u16, byte: u8) {
    code.extend([0x66, 0xba]);
    code.extend(port.to_le_bytes());
    code.extend([0xb0, byte, 0xee]);
}

/// The PVH note: the 32-bit physical address where the guest is entered.
fn note(entry: u32) -> Vec<u8> {
    let mut note = Vec::new();
    for word in [4_u32, 4, 18] {
        note.extend(word.to_le_bytes());
    }
    note.extend(b"Xen\0");
    note.extend(entry.to_le_bytes());
    note
}

fn header(entry: u32) -> Vec<u8> {
    let mut header = b"\x7fELF\x02\x01\x01".to_vec();
    header.resize(16, 0);
    // An executable for x86-64.
    header.extend(2_u16.to_le_bytes());
    header.extend(62_u16.to_le_bytes());
    header.extend(1_u32.to_le_bytes());
    // The entry, the program headers, no section headers.
    for word in [u64::from(entry), u64::from(EHDR), 0] {
        header.extend(word.to_le_bytes());
    }
    header.extend(0_u32.to_le_bytes());
    for half in [EHDR, PHDR, 2, 0, 0, 0] {
        header.extend(half.to_le_bytes());
    }
    header
}

fn program_header(kind: u32, flags: u32, offset: usize, size: usize, align: u64) -> Vec<u8> {
    let offset = offset as u64;
    let size = size as u64;
    let address = u64::from(BASE) + offset;
    let mut header = Vec::new();
    header.extend(kind.to_le_bytes());
    header.extend(flags.to_le_bytes());
    for word in [offset, address, address, size, size, align] {
        header.extend(word.to_le_bytes());
    }
    header
}
