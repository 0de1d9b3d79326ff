package contract

// What a call returns in the terms of `wit/operator.wit`: slots, times and empty values are written out. It is for hosts that know nothing
// else, and for tests, so it is simple rather than fast.

// PlainEmission has the records that leave by one port. Slots are indexes of Keys if IsFresh, and else those of the call.
type PlainEmission struct {
	Output     uint16
	IsFresh    bool
	Keys       Column
	Slots      []uint32
	Values     Column
	Timestamps []int64
}

// PlainValueWrites are new values of a value state.
type PlainValueWrites struct {
	State  uint16
	Slots  []uint32
	Values OptionalColumn
}

// Plain is what of an [Output] is said in another way. All else is the same.
type Plain struct {
	Emissions []PlainEmission
	Values    []PlainValueWrites
}

// Plain answers for the call with this batch, which has all of its columns.
func (o *Output) Plain(batch *Batch) (plain Plain) {
	for index := range o.Emissions {
		plain.Emissions = append(plain.Emissions, o.Emissions[index].plain(batch))
	}
	for _, writes := range o.Values {
		slots := writes.Slots.Places(batch.Keys.Len())
		plain.Values = append(plain.Values, PlainValueWrites{State: writes.State, Slots: slots, Values: writes.Values})
	}
	return plain
}

func (e *Emission) plain(batch *Batch) PlainEmission {
	records := e.Records.Places(len(batch.Slots))
	made := PlainEmission{Output: e.Output, IsFresh: e.HasKeys, Keys: e.Keys, Values: e.Values, Timestamps: e.Timestamps}
	if e.HasKeys {
		made.Slots = counted(len(records))
	} else {
		for _, record := range records {
			made.Slots = append(made.Slots, batch.Slots[record])
		}
	}
	if !e.HasValues {
		made.Values = Column{Ends: make([]uint32, len(records))}
	}
	if !e.HasTimestamps {
		for _, record := range records {
			made.Timestamps = append(made.Timestamps, batch.Timestamps[record])
		}
	}
	return made
}

// Places are the places of what is selected of so many items.
func (s *Selection) Places(items int) []uint32 {
	if s.IsAll {
		return counted(items)
	}
	return s.Listed
}

func counted(length int) []uint32 {
	places := make([]uint32, length)
	for place := range places {
		places[place] = uint32(place)
	}
	return places
}
