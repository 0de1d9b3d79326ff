package sdk

// Values that are integers of 64 bits, the most usual ones: all of a call are decoded, and encoded, in one loop. Called for each by itself,
// that costs more than all else that is done for a record.

import (
	"encoding/binary"

	"floodmark.dev/sdk/internal/contract"
)

// loadIntegers decodes what came with the call. What does not decode stays unknown, so that it fails when it is looked at.
func loadIntegers(cells []cell[uint64], current *contract.OptionalColumn, isSigned bool) {
	start := uint32(0)
	ends := current.Ends[:len(cells)]
	for slot := range cells {
		cell, end := &cells[slot], ends[slot]
		text := current.Bytes[start:end]
		start = end
		if current.Present[slot/8]&(1<<(slot%8)) == 0 {
			cell.value, cell.about = 0, isKnown|isHere
			continue
		}
		var number uint64
		length := 0
		switch {
		case len(text) == 1 && text[0] < 0x80:
			number, length = uint64(text[0]), 1
		case len(text) == 2 && text[0] >= 0x80 && text[1] < 0x80:
			number, length = uint64(text[0]&0x7f)|uint64(text[1])<<7, 2
		default:
			number, length = binary.Uvarint(text)
		}
		if length <= 0 || length != len(text) {
			cell.value, cell.about = 0, 0
			continue
		}
		if isSigned {
			number = number>>1 ^ -(number & 1)
		}
		cell.value, cell.about = number, isKnown|isThere|isHere
	}
}

// writeIntegers encodes what changed.
func writeIntegers(written *contract.ValueWrites, cells []cell[uint64], isSigned bool) {
	for slot := range cells {
		cell := &cells[slot]
		if cell.about&isChanged == 0 {
			continue
		}
		written.AddSlot(slot)
		values := &written.Values
		is := cell.about&isThere != 0
		if is {
			number := cell.value
			if isSigned {
				number = number<<1 ^ uint64(int64(number)>>63)
			}
			switch {
			case number < 1<<7:
				values.Bytes = append(values.Bytes, byte(number))
			case number < 1<<14:
				values.Bytes = append(values.Bytes, byte(number)|0x80, byte(number>>7))
			default:
				values.Bytes = binary.AppendUvarint(values.Bytes, number)
			}
		}
		values.EndItem(is)
	}
}
