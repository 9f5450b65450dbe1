//! Frames of anyone: each is understood or refused, and what is understood is written as it was read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use reknit_core::message::Message;
use reknit_core::wire::{RangeView, RecordFrame, WireItem, unpack_ranges};

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    match kind % 5 {
        0 => {
            if let Ok(message) = Message::decode(bytes) {
                assert_eq!(Message::decode(&message.encode()), Ok(message));
            }
        }
        1 => {
            if let Ok(views) = RangeView::unpack(bytes) {
                let mut again = Vec::new();
                views.iter().for_each(|view| view.encode(&mut again));
                assert_eq!(RangeView::unpack(&again), Ok(views));
            }
        }
        2 => {
            if let Ok(items) = WireItem::unpack(bytes) {
                let mut again = Vec::new();
                items.iter().for_each(|item| item.encode(&mut again));
                assert_eq!(WireItem::unpack(&again), Ok(items));
            }
        }
        3 => {
            if let Ok(frame) = RecordFrame::decode(bytes) {
                assert_eq!(RecordFrame::decode(&frame.encode()), Ok(frame));
            }
        }
        _ => {
            let _ = unpack_ranges(bytes);
        }
    }
});
