//! Identifiers and base64x.
#![no_main]

use libfuzzer_sys::fuzz_target;
use outpost_wire::id::{DeviceId, GroupId, Hash384, UserGroupId, UserId, base64x_decode, base64x_encode};

macro_rules! check {
    ($kind:ty, $text:expr) => {
        if let Ok(id) = <$kind>::parse($text) {
            assert_eq!(id.as_str(), $text);
            assert_eq!(format!("{}{}/{}", <$kind>::PREFIX, id.domain(), id.key()), $text);
            assert_eq!(<$kind>::new(id.domain(), id.key()).unwrap(), id);
            assert_eq!(<$kind>::complete(id.domain(), $text).unwrap(), id);
            assert!(<$kind>::complete("another domain", $text).is_err());
            let json = serde_json::to_string(&id).unwrap();
            assert_eq!(serde_json::from_str::<$kind>(&json).unwrap(), id);
        }
        if let Ok(id) = <$kind>::complete("d", $text) {
            assert_eq!(id.domain(), "d");
            assert_eq!(<$kind>::parse(id.as_str()).unwrap(), id);
        }
    };
}

fuzz_target!(|text: &str| {
    check!(UserId, text);
    check!(GroupId, text);
    check!(DeviceId, text);
    check!(UserGroupId, text);
    if let Ok(id) = UserId::from_name("", text) {
        assert_eq!(UserId::from_name("", id.key()).map(|again| again.domain().len()), Ok(0));
        assert_eq!(UserId::parse(id.as_str()).unwrap(), id);
    }
    if let Ok(bytes) = base64x_decode(text) {
        assert_eq!(base64x_decode(&base64x_encode(&bytes)).unwrap(), bytes);
    }
    if let Ok(hash) = Hash384::from_base64x(text).or_else(|_| Hash384::from_hex(text)) {
        assert_eq!(Hash384::from_base64x(&hash.to_base64x()).unwrap(), hash);
        assert_eq!(Hash384::from_hex(&hash.to_hex()).unwrap(), hash);
    }
});
