//! Frames of a desktop session (tunnel-protocols §4): one command a frame from the device, one or several from
//! the viewer.

/// Largest payload of an ordinary picture command; beyond it the picture is a jumbo one.
const LARGEST_ORDINARY: usize = 65_500;
/// Contacts of one touch command that are looked at (tunnel-protocols §4.3).
const MOST_CONTACTS: usize = 16;
/// Display id of "all of them".
pub const ALL_DISPLAYS: u16 = 65_535;

/// A display as the viewer sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Display {
    /// Its id.
    pub id: u16,
    /// Left edge on the desktop, in pixels.
    pub x: i16,
    /// Top edge.
    pub y: i16,
    /// Width.
    pub width: u16,
    /// Height.
    pub height: u16,
}

/// What a device tells a viewer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToViewer<'a> {
    /// A picture file whose upper left corner goes here.
    Picture {
        /// Left edge.
        x: u16,
        /// Top edge.
        y: u16,
        /// JPEG or another kind that viewers recognise.
        image: &'a [u8],
    },
    /// The size of the canvas from now on.
    Screen {
        /// Width.
        width: u16,
        /// Height.
        height: u16,
    },
    /// Which displays there are, and the one that is shown.
    Displays {
        /// Their ids.
        ids: &'a [u16],
        /// The one shown.
        selected: u16,
    },
    /// The display that is shown from now on.
    Selected(u16),
    /// Where the displays are.
    DisplayInfo(&'a [Display]),
    /// Bits of the keyboard's lights: 1 Num, 2 Scroll, 4 Caps.
    KeyState(u8),
    /// Number of the cursor's shape (tunnel-protocols §4.4).
    Cursor(u8),
    /// Whether touch can be injected: 1 yes, 2 no.
    Touch(u16),
    /// Something that a person should read.
    Alert(&'a str),
}

impl ToViewer<'_> {
    /// The frame.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Picture { x, y, image } => picture(*x, *y, image),
            Self::Screen { width, height } => command(7, &[&width.to_be_bytes(), &height.to_be_bytes()]),
            Self::Displays { ids, selected } => {
                let count = u16::try_from(ids.len()).unwrap_or(u16::MAX);
                let ids: Vec<u8> = ids.iter().flat_map(|id| id.to_be_bytes()).collect();
                command(11, &[&count.to_be_bytes(), &ids, &selected.to_be_bytes()])
            }
            Self::Selected(display) => command(12, &[&display.to_be_bytes()]),
            Self::DisplayInfo(displays) => {
                let all: Vec<u8> = displays
                    .iter()
                    .flat_map(|d| {
                        [
                            d.id.to_be_bytes(),
                            d.x.to_be_bytes(),
                            d.y.to_be_bytes(),
                            d.width.to_be_bytes(),
                            d.height.to_be_bytes(),
                        ]
                    })
                    .flatten()
                    .collect();
                command(82, &[&all])
            }
            Self::KeyState(bits) => command(18, &[&[*bits]]),
            Self::Cursor(shape) => command(88, &[&[*shape]]),
            Self::Touch(state) => command(14, &[&state.to_be_bytes()]),
            Self::Alert(text) => command(65, &[crate::text::shortened(text, 4096).as_bytes()]),
        }
    }
}

fn command(number: u16, parts: &[&[u8]]) -> Vec<u8> {
    let size = 4 + parts.iter().map(|part| part.len()).sum::<usize>();
    let mut frame = Vec::with_capacity(size);
    frame.extend(number.to_be_bytes());
    frame.extend(u16::try_from(size).unwrap_or(u16::MAX).to_be_bytes());
    for part in parts {
        frame.extend_from_slice(part);
    }
    frame
}

fn picture(x: u16, y: u16, image: &[u8]) -> Vec<u8> {
    if image.len() <= LARGEST_ORDINARY {
        return command(3, &[&x.to_be_bytes(), &y.to_be_bytes(), image]);
    }
    // A jumbo command: an outer head with the length of an inner one whose own size says 0.
    let inner = u32::try_from(8 + image.len()).unwrap_or(u32::MAX);
    let mut frame = Vec::with_capacity(16 + image.len());
    frame.extend([0, 27, 0, 8]);
    frame.extend(inner.to_be_bytes());
    frame.extend([0, 3, 0, 0]);
    frame.extend(x.to_be_bytes());
    frame.extend(y.to_be_bytes());
    frame.extend_from_slice(image);
    frame
}

/// How pictures are to be made; fields that a viewer leaves out stay as they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compression {
    /// 1 to 100.
    pub quality: Option<u8>,
    /// 1024 is full size; 64 to 4096.
    pub scaling: Option<u16>,
    /// Shortest time between pictures, in ms; 20 to 5000.
    pub interval_ms: Option<u16>,
}

/// One finger or pen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contact {
    /// Which.
    pub id: u8,
    /// Windows pointer flags: 0x10006 down, 0x20006 moved, 0x40000 up.
    pub flags: u32,
    /// Left.
    pub x: u16,
    /// Top.
    pub y: u16,
}

/// What a viewer tells a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromViewer {
    /// A key of a US keyboard, by its Windows number.
    Key {
        /// Pressed rather than let go.
        down: bool,
        /// The extended one of two keys with the same number.
        extended: bool,
        /// Virtual key code.
        code: u8,
    },
    /// The pointer is here; perhaps a button or the wheel moved.
    Mouse {
        /// Left, in pixels of the screen as announced.
        x: u16,
        /// Top.
        y: u16,
        /// 2 left down, 4 left up, 8 right down, 16 right up, 32 middle down, 64 middle up.
        buttons: u8,
        /// Positive is up; 120 is one notch.
        wheel: i16,
    },
    /// How pictures are to be made.
    Compression(Compression),
    /// Everything again.
    Refresh,
    /// Stop or go on sending pictures.
    Pause(bool),
    /// The key combination of the same name.
    CtrlAltDel,
    /// Which displays are there?
    GetDisplays,
    /// Show this one.
    SetDisplay(u16),
    /// Is there touch?
    TouchInit,
    /// Fingers.
    Touch(Vec<Contact>),
    /// A UTF-16 code unit that was typed.
    Unicode {
        /// Pressed rather than let go.
        down: bool,
        /// The unit.
        unit: u16,
    },
    /// Lock (1), unlock (0) or ask for (2) the device's own keyboard and mouse.
    InputLock(u8),
    /// Any other.
    Other(u16),
}

/// Reads the commands of one frame; what follows one that is cut short is left out.
pub fn parse(frame: &[u8]) -> Vec<FromViewer> {
    let mut commands = Vec::new();
    let mut rest = frame;
    while let [a, b, c, d, ..] = rest {
        let size = usize::from(u16::from_be_bytes([*c, *d]));
        if size < 4 || size > rest.len() || commands.len() >= 1024 {
            break;
        }
        let (one, after) = rest.split_at(size);
        if let Some(command) = read(u16::from_be_bytes([*a, *b]), &one[4..]) {
            commands.push(command);
        }
        rest = after;
    }
    commands
}

fn read(number: u16, payload: &[u8]) -> Option<FromViewer> {
    let word = |at: usize| Some(u16::from_be_bytes([*payload.get(at)?, *payload.get(at + 1)?]));
    Some(match number {
        1 => {
            let (action, code) = (*payload.first()?, *payload.get(1)?);
            if action > 4 {
                return None;
            }
            FromViewer::Key { down: matches!(action, 0 | 4), extended: matches!(action, 3 | 4), code }
        }
        2 => FromViewer::Mouse {
            buttons: *payload.get(1)?,
            x: word(2)?,
            y: word(4)?,
            wheel: word(6).map_or(0, u16::cast_signed),
        },
        5 => FromViewer::Compression(Compression {
            quality: payload.get(1).copied().filter(|quality| (1..=100).contains(quality)),
            scaling: word(2).filter(|scaling| (64..=4096).contains(scaling)),
            interval_ms: word(4).filter(|interval| (20..=5000).contains(interval)),
        }),
        6 => FromViewer::Refresh,
        8 => FromViewer::Pause(*payload.first()? == 1),
        10 => FromViewer::CtrlAltDel,
        11 => FromViewer::GetDisplays,
        12 => FromViewer::SetDisplay(word(0)?),
        13 => FromViewer::Compression(Compression {
            interval_ms: word(0).filter(|interval| (20..=5000).contains(interval)),
            ..Compression::default()
        }),
        14 => FromViewer::TouchInit,
        15 => FromViewer::Touch(contacts(payload)?),
        85 => FromViewer::Unicode { down: *payload.first()? == 0, unit: word(1)? },
        87 => FromViewer::InputLock(*payload.first()?),
        other => FromViewer::Other(other),
    })
}

fn contacts(payload: &[u8]) -> Option<Vec<Contact>> {
    let (kind, rest) = payload.split_first()?;
    if !matches!(kind, 1 | 2) {
        return None;
    }
    let records = rest.as_chunks::<9>().0.iter().take(if *kind == 1 { 1 } else { MOST_CONTACTS });
    Some(
        records
            .map(|[id, f0, f1, f2, f3, x0, x1, y0, y1]| Contact {
                id: *id,
                flags: u32::from_be_bytes([*f0, *f1, *f2, *f3]),
                x: u16::from_be_bytes([*x0, *x1]),
                y: u16::from_be_bytes([*y0, *y1]),
            })
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_as_captured_from_an_agent() {
        let frame = |message: ToViewer<'_>| message.encode();
        assert_eq!(frame(ToViewer::Screen { width: 1000, height: 700 }), [0, 7, 0, 8, 3, 0xE8, 2, 0xBC]);
        assert_eq!(frame(ToViewer::KeyState(4)), [0, 18, 0, 5, 4]);
        assert_eq!(frame(ToViewer::Displays { ids: &[0], selected: 0 }), [0, 11, 0, 10, 0, 1, 0, 0, 0, 0]);
        assert_eq!(frame(ToViewer::Cursor(14)), [0, 0x58, 0, 5, 0x0E]);
        let picture = frame(ToViewer::Picture { x: 256, y: 128, image: &[0xFF, 0xD8, 0xFF] });
        assert_eq!(picture, [0, 3, 0, 11, 1, 0, 0, 0x80, 0xFF, 0xD8, 0xFF]);
        let display = Display { id: 1, x: -1, y: 2, width: 3, height: 4 };
        assert_eq!(
            frame(ToViewer::DisplayInfo(&[display])),
            [0, 82, 0, 14, 0, 1, 0xFF, 0xFF, 0, 2, 0, 3, 0, 4]
        );
    }

    #[test]
    fn a_large_picture_is_a_jumbo_command() {
        let image = vec![7; LARGEST_ORDINARY + 1];
        let frame = ToViewer::Picture { x: 32, y: 64, image: &image }.encode();
        assert_eq!(frame[..4], [0, 27, 0, 8]);
        let inner = u32::from_be_bytes([frame[4], frame[5], frame[6], frame[7]]) as usize;
        assert_eq!((inner, frame.len()), (8 + image.len(), inner + 8));
        assert_eq!(frame[8..16], [0, 3, 0, 0, 0, 32, 0, 64]);
        let ordinary = ToViewer::Picture { x: 0, y: 0, image: &image[1..] }.encode();
        assert_eq!(ordinary[..4], [0, 3, 0xFF, 0xE4]);
    }

    #[test]
    fn frames_as_captured_from_a_viewer() {
        let one = |frame: &[u8]| {
            let commands = parse(frame);
            assert_eq!(commands.len(), 1, "{frame:?}");
            commands.into_iter().next().expect("one")
        };
        let all = Compression { quality: Some(50), scaling: Some(1024), interval_ms: Some(100) };
        assert_eq!(one(&[0, 5, 0, 10, 1, 0x32, 4, 0, 0, 0x64]), FromViewer::Compression(all));
        let short = Compression { quality: Some(50), ..Compression::default() };
        assert_eq!(one(&[0, 5, 0, 6, 1, 0x32]), FromViewer::Compression(short));
        assert_eq!(one(&[0, 8, 0, 5, 0]), FromViewer::Pause(false));
        assert_eq!(one(&[0, 6, 0, 4]), FromViewer::Refresh);
        assert_eq!(one(&[0, 0x57, 0, 5, 2]), FromViewer::InputLock(2));
        let mouse = FromViewer::Mouse { x: 200, y: 200, buttons: 0, wheel: 0 };
        assert_eq!(one(&[0, 2, 0, 10, 0, 0, 0, 0xC8, 0, 0xC8]), mouse);
        let wheel = FromViewer::Mouse { x: 200, y: 200, buttons: 0, wheel: 120 };
        assert_eq!(one(&[0, 2, 0, 12, 0, 0, 0, 0xC8, 0, 0xC8, 0, 0x78]), wheel);
        let caps = FromViewer::Key { down: true, extended: false, code: 0x14 };
        assert_eq!(one(&[0, 1, 0, 6, 0, 0x14]), caps);
        let home = FromViewer::Key { down: false, extended: true, code: 0x24 };
        assert_eq!(one(&[0, 1, 0, 6, 3, 0x24]), home);
        assert_eq!(one(&[0, 0x55, 0, 7, 0, 0, 0x41]), FromViewer::Unicode { down: true, unit: 0x41 });
        let finger = Contact { id: 3, flags: 0x10006, x: 5, y: 6 };
        assert_eq!(one(&[0, 15, 0, 14, 1, 3, 0, 1, 0, 6, 0, 5, 0, 6]), FromViewer::Touch(vec![finger]));
        assert_eq!(one(&[0, 99, 0, 4]), FromViewer::Other(99));
    }

    #[test]
    fn several_commands_and_nonsense() {
        let keys = parse(&[0, 1, 0, 6, 0, 65, 0, 1, 0, 6, 1, 65]);
        assert_eq!(keys.len(), 2);
        for nonsense in [
            &[][..],
            &[0],
            &[0, 1, 0, 3],
            &[0, 1, 0, 200, 0, 65],
            &[0, 1, 0, 4],
            &[0, 1, 0, 6, 9, 65],
            &[0, 12, 0, 5, 1],
        ] {
            assert_eq!(parse(nonsense), [], "{nonsense:?}");
        }
        // What follows a command that says too little is still read, what follows one cut short is not.
        assert_eq!(parse(&[0, 1, 0, 4, 0, 6, 0, 4]), [FromViewer::Refresh]);
        assert_eq!(parse(&[0, 6, 0, 4, 0, 1, 0, 6, 0]), [FromViewer::Refresh]);
    }
}
