//! Programs for a port's lines: those that the driver accepts, and those that are only nearly so.

use parscan_tests::port_programs as lines;

use crate::dice::Dice;

/// The most bytes that a program here takes or gives.
const MOST: usize = 2000;

/// A program that is right by its construction, for a chip that has all of it.
#[derive(Default)]
struct Draft {
    code: Vec<[u8; 4]>,
    /// Bytes that it takes and gives.
    data: usize,
    output: usize,
}

impl Draft {
    /// Some instructions, done so many times.
    fn part(&mut self, dice: &mut Dice, depth: usize, times: usize, with_epp: bool) {
        for _ in 0..=dice.below(6) {
            self.one(dice, depth, times, with_epp);
        }
    }

    /// A few instructions that take no longer than a program may that is not interrupted.
    fn short(&mut self, dice: &mut Dice) {
        for _ in 0..=dice.below(5) {
            match dice.below(6) {
                0 => self.code.push(lines::data(dice.plain())),
                1 => {
                    self.code.push(lines::get(dice.of(&[0, 1, 2])));
                    self.gives(1);
                }
                2 => self.code.push(lines::pace(dice.of(&[0, 700, 2500, 6000]))),
                3 => self.code.push(lines::delay(dice.of(&[0, 900, 4000]))),
                4 => {
                    self.code.push([6, 0x80, dice.of(&[0, 0x80]), 1]);
                    let [_, a, b, c] = lines::delay_us(dice.of(&[0, 1, 5]));
                    self.code.push([7, a, b, c]);
                    self.gives(1);
                }
                _ => {
                    self.code.push(lines::NEXT_DATA);
                    self.data += 1;
                }
            }
        }
    }

    fn gives(&mut self, times: usize) {
        self.output += times;
    }

    fn one(&mut self, dice: &mut Dice, depth: usize, times: usize, with_epp: bool) {
        let mask = dice.byte() & if dice.one_in(3) { 0x2F } else { 0x0F };
        match dice.below(16) {
            0 | 1 => self.code.push(lines::data(dice.plain())),
            2 if mask != 0 => self.code.push(lines::control(dice.byte() & mask, mask)),
            3 | 4 => {
                self.code.push(lines::get(dice.of(&[0, 1, 2])));
                self.gives(times);
            }
            5 | 6 => {
                self.code.push(lines::NEXT_DATA);
                self.data += times;
            }
            7 if mask != 0 => {
                self.code.push([5, mask, 0, 0]);
                self.data += times;
            }
            8 | 9 => self.wait(dice, times),
            10 => {
                let time = [
                    lines::delay(dice.of(&[0, 100, 60_000, 8_000_000])),
                    lines::delay_us(dice.of(&[0, 3, 60, 2000])),
                ];
                self.code.push(dice.of(&time));
            }
            11 => self
                .code
                .push(lines::pace(dice.of(&[0, 500, 5000, 70_000, 2_000_000]))),
            12 | 13 if depth < 4 => {
                let again = dice.of(&[1, 2, 3, 20]);
                let whole = times * again;
                if self.data.max(self.output).saturating_add(whole * 8) < MOST {
                    let again = u32::try_from(again).unwrap_or(1);
                    self.code.push(lines::repeat(again));
                    self.part(dice, depth + 1, whole, with_epp);
                    self.code.push(lines::END);
                }
            }
            14 if with_epp => self.code.push([12, dice.of(&[0, 1]), dice.byte(), 0]),
            15 if with_epp => {
                self.code.push([13, dice.of(&[0, 1]), 0, 0]);
                self.gives(times);
            }
            _ => {}
        }
    }

    fn wait(&mut self, dice: &mut Dice, times: usize) {
        let mask = dice.of(&[0x80, 0x40, 0x20, 0x10, 0x08, 0xF8]);
        let value = dice.byte() & mask;
        let go_on = u8::from(!dice.one_in(3));
        self.code.push([6, mask, value, go_on]);
        let us = dice.of(&[0, 1, 30, 200, 7000]);
        let [_, a, b, c] = lines::delay_us(us);
        self.code.push([7, a, b, c]);
        self.output += times * usize::from(go_on);
    }
}

/// The input of a RUN, and the room that its answer needs.
pub(crate) fn program(dice: &mut Dice) -> (Vec<u8>, usize) {
    if dice.one_in(4) {
        return nearly(dice);
    }
    let mut draft = Draft::default();
    let with_epp = dice.one_in(3);
    let is_short = dice.one_in(3);
    if is_short {
        draft.short(dice);
    } else {
        draft.part(dice, 0, 1, with_epp);
    }
    if draft.code.is_empty() {
        draft.code.push(lines::get(1));
        draft.output += 1;
    }
    let data = dice.text(draft.data);
    let room = draft.output + dice.of(&[0, 0, 1, 100]);
    let atomic = dice.one_in(if is_short { 2 } else { 8 });
    (
        lines::request(&draft.code, &data, atomic),
        lines::RESULT + room,
    )
}

/// A program of instructions that there are, mostly.
fn nearly(dice: &mut Dice) -> (Vec<u8>, usize) {
    let mut code = Vec::new();
    for _ in 0..dice.below(24) {
        let operation = if dice.one_in(20) {
            dice.byte()
        } else {
            dice.of(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13])
        };
        let arguments = match operation {
            6 | 7 => [
                dice.of(&[0x80, 0x20, 0x08]),
                dice.of(&[0x80, 0, 0x20]),
                dice.of(&[0, 1, 5]),
            ],
            8 | 9 => [dice.byte(), dice.of(&[0, 1, 4]), dice.of(&[0, 0, 0x80])],
            10 => [dice.of(&[0, 1, 3, 200]), dice.of(&[0, 0, 1]), 0],
            3 | 5 | 13 => [dice.of(&[0, 1, 2, 3, 4]), 0, 0],
            4 | 11 => [0; 3],
            _ => [dice.plain(), dice.byte(), 0],
        };
        code.push([operation, arguments[0], arguments[1], arguments[2]]);
    }
    if !dice.one_in(8) {
        code.push(lines::END);
    }
    if dice.one_in(40) {
        code.resize(dice.of(&[4096, 4097]), lines::data(1));
    }
    let length = dice.of(&[0, 1, 3, 64, 1000]);
    let bytes = dice.text(length);
    let atomic = dice.one_in(4);
    let room = dice.of(&[0, 1, 8, 64, 4096]);
    (lines::request(&code, &bytes, atomic), lines::RESULT + room)
}
