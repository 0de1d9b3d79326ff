// Package contract has the contract's own shape in Go: whole batches, column by column, as `wit/` says. The SDK speaks it
// on one side, and the host or a test of an operator on the other. Operators never meet it.
package contract

import "math"

// NoTimestamp is the time of a record that has none.
const NoTimestamp = math.MinInt64

// A Column has byte strings laid end to end: item i is Bytes[Ends[i-1]:Ends[i]].
type Column struct {
	Ends  []uint32
	Bytes []byte
}

// Len is the number of items.
func (c *Column) Len() int { return len(c.Ends) }

// Get is item i: a view that cannot grow into the next item.
func (c *Column) Get(i int) []byte {
	start := uint32(0)
	if i > 0 {
		start = c.Ends[i-1]
	}
	end := c.Ends[i]
	return c.Bytes[start:end:end]
}

// Push adds an item.
func (c *Column) Push(item []byte) {
	c.Bytes = append(c.Bytes, item...)
	c.EndItem()
}

// EndItem ends an item that was appended to Bytes.
func (c *Column) EndItem() { c.Ends = append(c.Ends, uint32(len(c.Bytes))) }

// Reset removes all items and keeps the memory.
func (c *Column) Reset() { c.Ends, c.Bytes = Emptied(c.Ends), Emptied(c.Bytes) }

// An OptionalColumn is a column with gaps: bit i%8 of Present[i/8] says whether item i is there.
type OptionalColumn struct {
	Present []byte
	Ends    []uint32
	Bytes   []byte
}

// Len is the number of items, absent ones included.
func (c *OptionalColumn) Len() int { return len(c.Ends) }

// Get is item i, if it is there.
func (c *OptionalColumn) Get(i int) ([]byte, bool) {
	if c.Present[i/8]&(1<<(i%8)) == 0 {
		return nil, false
	}
	start := uint32(0)
	if i > 0 {
		start = c.Ends[i-1]
	}
	end := c.Ends[i]
	return c.Bytes[start:end:end], true
}

// Push adds an item, or a gap.
func (c *OptionalColumn) Push(item []byte, isThere bool) {
	if isThere {
		c.Bytes = append(c.Bytes, item...)
	}
	c.EndItem(isThere)
}

// EndItem ends an item that was appended to Bytes, or a gap.
func (c *OptionalColumn) EndItem(isThere bool) {
	i := len(c.Ends)
	if i%8 == 0 {
		c.Present = append(c.Present, 0)
	}
	if isThere {
		c.Present[i/8] |= 1 << (i % 8)
	}
	c.Ends = append(c.Ends, uint32(len(c.Bytes)))
}

// Reset removes all items and keeps the memory.
func (c *OptionalColumn) Reset() {
	c.Present, c.Ends, c.Bytes = Emptied(c.Present), Emptied(c.Ends), Emptied(c.Bytes)
}

// keptItemsMax is how many items may wait for the next call: an instance has little memory, and one call may have been large.
const keptItemsMax = 1 << 20

// Emptied keeps the memory of a slice for what comes next, unless it is much.
func Emptied[T any](items []T) []T {
	if cap(items) > keptItemsMax {
		return nil
	}
	return items[:0]
}

// A Batch has records of one input port, in arrival order.
type Batch struct {
	Keys       Column
	Slots      []uint32
	Values     Column
	Timestamps []int64
}
