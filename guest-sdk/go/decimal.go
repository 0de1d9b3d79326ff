package sdk

import (
	"math/bits"
	"slices"
	"strconv"
)

// decimalBytesMax is how many digits a number of 32 bits has at most.
const decimalBytesMax = 10

// digitPairs are 00 to 99.
const digitPairs = "00010203040506070809101112131415161718192021222324252627282930313233343536373839404142434445464748495051525354555657585960" +
	"616263646566676869707172737475767778798081828384858687888990919293949596979899"

// powersOfTen has the least number of one digit more than its place.
var powersOfTen = [...]uint32{0, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000}

// appendDecimal appends a number as decimal text. Package strconv writes the digits elsewhere and copies them, and a copy of a few bytes
// costs more than they do.
func appendDecimal(to []byte, number uint64) []byte {
	if number > 1<<32-1 {
		return strconv.AppendUint(to, number, 10)
	}
	if cap(to)-len(to) < decimalBytesMax {
		to = slices.Grow(to, decimalBytesMax)
	}
	start := len(to)
	room := (*[decimalBytesMax]byte)(to[start : start+decimalBytesMax])
	rest := uint32(number)
	// Less than log10(2) a bit, so it may be one too low.
	length := bits.Len32(rest|1) * 1233 >> 12
	if rest >= powersOfTen[length%len(powersOfTen)] {
		length++
	}
	at := length
	for rest >= 100 {
		pair := rest % 100 * 2
		rest /= 100
		at -= 2
		room[at+1], room[at] = digitPairs[pair+1], digitPairs[pair]
	}
	if rest < 10 {
		room[0] = '0' + byte(rest)
	} else {
		room[0], room[1] = digitPairs[rest*2], digitPairs[rest*2+1]
	}
	return to[:start+length]
}
