package sdk

// Memory that the host writes to and reads from.
//
// The collector does not move what it manages, so the host can be told addresses, as long as something here still points there. What comes
// with a call lies in an arena that the first allocation after the call empties; what answers a question lies in another one, or is
// left to the collector where it may have to last.

import "unsafe"

// arenaBytesMin is what an arena has at least.
const arenaBytesMin = 64 << 10

// An arena hands out memory from the start of a block on. What no longer fits gets a block of its own, and the next time there is one
// block for all.
type arena struct {
	block []uint64
	used  uint32
	more  [][]uint64
	all   uint32
}

// take hands out memory on a boundary of 8 bytes, which is enough for all that the contract has.
func (a *arena) take(size uint32) unsafe.Pointer {
	words := (size + 7) / 8
	a.all += words
	if uint32(len(a.block))-a.used >= words && len(a.block) > 0 {
		at := unsafe.Pointer(unsafe.SliceData(a.block[a.used:]))
		a.used += words
		return at
	}
	block := make([]uint64, max(words, arenaBytesMin/8))
	if len(a.block) == 0 {
		a.block, a.used = block, words
	} else {
		a.more = append(a.more, block)
	}
	return unsafe.Pointer(unsafe.SliceData(block))
}

// empty takes everything back.
func (a *arena) empty() {
	isMuch := len(a.block) > 1<<17 && a.all < uint32(len(a.block)/4)
	if a.more != nil || isMuch {
		a.block, a.more = make([]uint64, max(a.all, arenaBytesMin/8)), nil
	}
	a.used, a.all = 0, 0
}

// memory says what the host's next allocation is for.
var memory struct {
	calls, answers arena
	// isOver says that the call is over whose arguments lie in calls.
	isOver bool
	// isAnswer is true while a question is asked, and lasts says whether the answer outlives the next question.
	isAnswer, lasts bool
	lasting         [][]uint64
}

//go:wasmexport cabi_realloc
func cabiRealloc(old unsafe.Pointer, oldSize, align, size uint32) unsafe.Pointer {
	if size == 0 {
		return unsafe.Add(nil, uintptr(align))
	}
	made := allocated(size)
	if oldSize > 0 {
		copy(unsafe.Slice((*byte)(made), size), unsafe.Slice((*byte)(old), oldSize))
	}
	return made
}

func allocated(size uint32) unsafe.Pointer {
	switch {
	case memory.isAnswer && memory.lasts:
		block := make([]uint64, (size+7)/8)
		memory.lasting = append(memory.lasting, block)
		return unsafe.Pointer(unsafe.SliceData(block))
	case memory.isAnswer:
		return memory.answers.take(size)
	}
	if memory.isOver {
		memory.isOver = false
		memory.calls.empty()
	}
	return memory.calls.take(size)
}

// asking is called before a question, and answered after its answer was taken over.
func asking(lasts bool) {
	memory.isAnswer, memory.lasts = true, lasts
	if !lasts {
		memory.answers.empty()
	}
}

func answered() {
	memory.isAnswer = false
	clear(memory.lasting)
	memory.lasting = memory.lasting[:0]
}

// sliceOf is memory that the host wrote.
func sliceOf[T any](at, length uint32) []T {
	if length == 0 {
		return nil
	}
	return unsafe.Slice((*T)(unsafe.Add(nil, uintptr(at))), length)
}

// address is where a slice lies, for the host. Something else must keep it there.
func address[T any](items []T) uint32 {
	return uint32(uintptr(unsafe.Pointer(unsafe.SliceData(items))))
}

func addressOf(text string) uint32 { return uint32(uintptr(unsafe.Pointer(unsafe.StringData(text)))) }
