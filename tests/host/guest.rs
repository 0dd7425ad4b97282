//! Guests of a few instructions: they print one line on the serial port and then end as asked.
//!
//! They boot by PVH in milliseconds, also where an ordinary Linux guest makes no progress.

use std::io::Write as _;

/// Where the guest is loaded; its file is one segment, headers included.
const BASE: u32 = 0x0010_0000;
/// Where the code begins in the file.
const CODE: usize = 0x200;
/// Where `AWAIT_BUTTON` is in the file of a guest that waits for the power button.
const AWAIT: usize = 0xe00;
/// What that guest runs when the button is pressed.
const PRESSED: usize = 0xe80;
/// The register of the interrupt descriptor table, and the one gate in it.
const IDTR: usize = 0xf00;
const GATE: usize = 0xf08;
/// The size of the file.
const SIZE: usize = 0x1000;
const EHDR: u16 = 64;
const PHDR: u16 = 56;

/// The name under which the test binary prints a guest: for the tests in tests/nixos, which run on the stand-in.
pub(crate) const NAME: &str = "test-guest";

/// Prints a guest that powers off when it is asked.
pub(crate) fn print() -> std::process::ExitCode {
    let guest = Guest {
        line: "hello",
        then: Then::PowerOffWhenAsked,
    };
    match std::io::stdout().write_all(&guest.elf()) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(_) => std::process::ExitCode::FAILURE,
    }
}

/// What a guest does after its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// Stays up and does nothing.
    Halt,
    /// Powers off by ACPI.
    PowerOff,
    /// Resets by the keyboard controller, which boots it again.
    Reset,
    /// Jumps to where nothing is mapped, which the VMM cannot emulate.
    Crash,
    /// Says by its pvpanic device that it panicked, and stays up.
    PanicAndHalt,
    /// The same, and powers off by ACPI.
    PanicAndPowerOff,
    /// Prints whatever is typed on the serial port.
    Echo,
    /// Powers off by ACPI when the power button is pressed, and idles until then.
    PowerOffWhenAsked,
    /// Crashes when the power button is pressed, and idles until then.
    CrashWhenAsked,
}

/// Idles until any interrupt line is raised. With no driver for any device there is one that can be:
/// that of the Generic Event Device (ACPI 5.6.9), which cloud-hypervisor raises for the power button.
/// Which pin it has does not matter, since all have the same vector, 0x40.
pub(crate) const AWAIT_BUTTON: [u8; 53] = [
    0xbc, 0x00, 0x0e, 0x10, 0x00, // mov esp, BASE + AWAIT: the stack, below this
    0x0f, 0x01, 0x1d, 0x00, 0x0f, 0x10, 0x00, // lidt [BASE + IDTR]
    0xbf, 0xf0, 0x00, 0xe0, 0xfe, // mov edi, 0xfee000f0: spurious vector register, local APIC
    0xc7, 0x07, 0xff, 0x01, 0x00, 0x00, // mov dword [edi], 0x1ff: enable it
    0xbf, 0x00, 0x00, 0xc0, 0xfe, // mov edi, 0xfec00000: the I/O APIC
    0xb9, 0x17, 0x00, 0x00, 0x00, // mov ecx, 23: its last pin
    // For every pin: vector 0x40, edge, not masked.
    0x8d, 0x44, 0x09, 0x10, // lea eax, [ecx + ecx + 0x10]: its redirection entry
    0x89, 0x07, // mov [edi], eax
    0xc7, 0x47, 0x10, 0x40, 0x00, 0x00, 0x00, // mov dword [edi + 0x10], 0x40
    0x49, // dec ecx
    0x79, 0xf0, // jns: the pin before it
    0xfb, // sti
    0xf4, // hlt
    0xeb, 0xfd, // jmp back to it
];

/// Prints each byte that comes in on the serial port.
pub(crate) const ECHO: [u8; 17] = [
    0x66, 0xba, 0xfd, 0x03, // mov dx, 0x3fd: the line status register
    0xec, // in al, dx
    0xa8, 0x01, // test al, 1: there is a byte
    0x74, 0xf7, // jz: look again
    0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8
    0xec, // in al, dx
    0xee, // out dx, al
    0xeb, 0xef, // jmp: look again
];

/// Finds the pvpanic device (1b36:0011) on the PCI bus, lets it decode its memory, and writes "panicked" to it. Halts where
/// there is none.
pub(crate) const PANIC: [u8; 65] = [
    0xbb, 0x00, 0x00, 0x00, 0x80, // mov ebx, 0x80000000: bus 0, device 0
    0x66, 0xba, 0xf8, 0x0c, // mov dx, 0xcf8: the address of configuration space
    0x89, 0xd8, // mov eax, ebx
    0xef, // out dx, eax
    0xb2, 0xfc, // mov dl, 0xfc: its data
    0xed, // in eax, dx
    0x3d, 0x36, 0x1b, 0x11, 0x00, // cmp eax, 0x111b36
    0x74, 0x11, // je: this is it
    0x81, 0xc3, 0x00, 0x08, 0x00, 0x00, // add ebx, 0x800: the next device
    0x81, 0xfb, 0x00, 0x00, 0x01, 0x80, // cmp ebx, 0x80010000
    0x75, 0xe1, // jne: look at it
    0xf4, // hlt
    0xeb, 0xfd, // jmp back to it
    0xb2, 0xf8, // mov dl, 0xf8
    0x8d, 0x43, 0x04, // lea eax, [ebx + 4]: its command register
    0xef, // out dx, eax
    0xb2, 0xfc, // mov dl, 0xfc
    0xed, // in eax, dx
    0x0c, 0x02, // or al, 2: memory
    0xef, // out dx, eax
    0xb2, 0xf8, // mov dl, 0xf8
    0x8d, 0x43, 0x10, // lea eax, [ebx + 0x10]: where its memory is
    0xef, // out dx, eax
    0xb2, 0xfc, // mov dl, 0xfc
    0xed, // in eax, dx
    0x24, 0xf0, // and al, 0xf0
    0xc6, 0x00, 0x01, // mov byte [eax], 1
];

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
            file.len() <= AWAIT - 0x100,
            "the line is too long for the guest's one page and its stack"
        );
        if let Some(ending) = self.then.when_asked() {
            put(&mut file, AWAIT, &AWAIT_BUTTON);
            put(&mut file, PRESSED, &ending);
            put(&mut file, IDTR, &idtr());
            put(&mut file, GATE, &gate());
        }
        file.resize(SIZE, 0);
        file
    }

    fn code(&self) -> Vec<u8> {
        let mut code = Vec::new();
        for byte in self.line.bytes().chain([b'\n']) {
            out(&mut code, 0x3f8, byte);
        }
        code.extend(self.then.at_once());
        code
    }
}

impl Then {
    /// The code after the line.
    fn at_once(self) -> Vec<u8> {
        match self {
            Self::Halt => HALT.to_vec(),
            Self::Echo => ECHO.to_vec(),
            Self::PowerOff => power_off(),
            Self::Reset => {
                let mut code = Vec::new();
                out(&mut code, 0x64, 0xfe);
                code.extend(HALT);
                code
            }
            Self::Crash => jump(UNMAPPED),
            Self::PanicAndHalt => [&PANIC[..], &HALT].concat(),
            Self::PanicAndPowerOff => [&PANIC[..], &power_off()].concat(),
            Self::PowerOffWhenAsked | Self::CrashWhenAsked => jump(address(AWAIT)),
        }
    }

    /// The code that the power button's interrupt leads to, for guests that wait for it.
    fn when_asked(self) -> Option<Vec<u8>> {
        match self {
            Self::PowerOffWhenAsked => Some(power_off()),
            Self::CrashWhenAsked => Some(jump(UNMAPPED)),
            Self::Halt
            | Self::Echo
            | Self::PowerOff
            | Self::Reset
            | Self::Crash
            | Self::PanicAndHalt
            | Self::PanicAndPowerOff => None,
        }
    }
}

/// No memory, no device, and below the devices of every cloud-hypervisor.
const UNMAPPED: u32 = 0xd000_0000;
/// hlt; jmp back to it
const HALT: [u8; 3] = [0xf4, 0xeb, 0xfd];

fn power_off() -> Vec<u8> {
    let mut code = Vec::new();
    out(&mut code, 0x600, 0x34);
    code.extend(HALT);
    code
}

/// mov eax, address; jmp eax
fn jump(address: u32) -> Vec<u8> {
    let mut code = vec![0xb8];
    code.extend(address.to_le_bytes());
    code.extend([0xff, 0xe0]);
    code
}

/// The address of a place in the file.
pub(crate) fn address(at: usize) -> u32 {
    BASE + u32::try_from(at).expect("a place in a file of one page")
}

/// Where a guest that waits goes on when the button is pressed.
pub(crate) fn pressed() -> u32 {
    address(PRESSED)
}

/// The limit and the base of a table that has its one gate at vector 0x40.
fn idtr() -> Vec<u8> {
    let offset: u16 = 0x40 * 8;
    let mut idtr = (offset + 7).to_le_bytes().to_vec();
    idtr.extend((address(GATE) - u32::from(offset)).to_le_bytes());
    idtr
}

/// An interrupt gate to `PRESSED`. PVH has no word on selectors; 8 is cloud-hypervisor's code segment.
fn gate() -> Vec<u8> {
    let [low, high] = [pressed() & 0xffff, pressed() >> 16].map(u32::to_le_bytes);
    vec![low[0], low[1], 8, 0, 0, 0x8e, high[0], high[1]]
}

fn put(file: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    assert!(file.len() <= at, "the parts of the guest do not overlap");
    file.resize(at, 0);
    file.extend(bytes);
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
