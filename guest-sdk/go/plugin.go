package sdk

// An operator that sees records as a plugin that sees batches. One pass over the columns: keys and values are views of the batch, states
// and what is emitted lie in memory that the next call uses again. Nothing is allocated for a single record.

import (
	"fmt"
	"reflect"
	"strings"

	"floodmark.dev/sdk/internal/contract"
)

// A plugin is what the host calls.
//
//   - operator is nil before the first call and after one that failed, since it may have seen half of a batch. The next call opens
//     another one.
type plugin struct {
	initial      reflect.Value
	description  contract.Description
	unread       []contract.Unread // one for each input
	declarations []declaration
	config       [][2]string

	operator Operator
	states   []stateField
	call     call
	read     contract.Batch
	out      Output
	output   contract.Output
}

func (p *plugin) Describe() contract.Description { return p.description }

func (p *plugin) Unread() (some []contract.Unread) {
	for _, unread := range p.unread {
		if unread.Values || unread.Timestamps {
			some = append(some, unread)
		}
	}
	return some
}

func (p *plugin) Open(config [][2]string) error {
	p.config = config
	return p.open()
}

func (p *plugin) open() (err error) {
	p.operator = nil
	forgetMetrics()
	defer func() {
		if cause := recover(); cause != nil {
			err = recovered(cause)
		}
	}()
	fresh := reflect.New(p.initial.Type())
	fresh.Elem().Set(p.initial)
	p.states = stateFields(fresh.Elem(), p.declarations)
	p.call = call{slot: noSlot}
	for index, field := range p.states {
		if err := field.bind(state{&p.call, &p.declarations[index].declared, index}); err != nil {
			return err
		}
	}
	p.out = Output{names: p.description.Outputs, ports: make([]emitted, len(p.description.Outputs))}
	operator := fresh.Interface().(Operator)
	config := &Config{options: p.config}
	if opener, isOpener := operator.(Opener); isOpener {
		err = opener.Open(config)
	}
	if config.err != nil {
		return config.err
	}
	if err != nil {
		return err
	}
	if err := config.refuseUnknown(); err != nil {
		return err
	}
	p.operator = operator
	reportMetrics()
	return nil
}

func (p *plugin) Process(input uint16, batch *contract.Batch, states []contract.OptionalColumn) (*contract.Output, error) {
	if p.operator == nil {
		if err := p.open(); err != nil {
			return nil, err
		}
	}
	forgetMetrics()
	p.read = *batch
	if p.unread[input].Values {
		p.read.Values = contract.Column{}
	}
	if p.unread[input].Timestamps {
		p.read.Timestamps = nil
	}
	p.call.batch, p.call.states, p.call.input = &p.read, states, p.description.Inputs[input]
	p.out.begin(&p.call)
	for _, state := range p.states {
		state.begin(batch.Keys.Len())
	}
	err := p.run()
	if err == nil {
		err = p.finish()
	} else {
		err = fmt.Errorf("a record with the key `%s`: %w", readable(Record{&p.call, p.out.record}.Key()), err)
	}
	p.call.slot = noSlot
	if err != nil {
		p.operator = nil
		return nil, err
	}
	reportMetrics()
	return &p.output, nil
}

// run hands over record by record. A panic is an error.
func (p *plugin) run() (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = recovered(cause)
		}
	}()
	operator, out := p.operator, &p.out
	for index, slot := range p.call.batch.Slots {
		p.call.slot, out.record = int(slot), index
		if err := operator.Process(Record{&p.call, index}, out); err != nil {
			return err
		}
	}
	return nil
}

// finish puts together what leaves.
func (p *plugin) finish() error {
	output := &p.output
	output.Emissions = p.out.finish(output.Emissions[:0])
	output.Values, output.Lists, output.Maps = output.Values[:0], output.Lists[:0], output.Maps[:0]
	output.Rejections = p.out.rejections
	for _, state := range p.states {
		if err := state.finish(output); err != nil {
			return err
		}
	}
	return nil
}

func (p *plugin) Migrate(state uint16, from uint32, values *contract.Column) (contract.Column, error) {
	return p.about(state, func(of *declaration) (contract.Column, error) { return of.migrate(from, values) })
}

func (p *plugin) ToJSON(state uint16, part contract.Part, values *contract.Column) (contract.Column, error) {
	return p.about(state, func(of *declaration) (contract.Column, error) { return of.toJSON(part, values) })
}

func (p *plugin) FromJSON(state uint16, part contract.Part, texts *contract.Column) (contract.Column, error) {
	return p.about(state, func(of *declaration) (contract.Column, error) { return of.fromJSON(part, texts) })
}

func (p *plugin) about(state uint16, ask func(*declaration) (contract.Column, error)) (column contract.Column, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = recovered(cause)
		}
	}()
	if int(state) >= len(p.declarations) {
		return column, fmt.Errorf("there is no state %d", state)
	}
	return ask(&p.declarations[state])
}

func (p *plugin) CheckpointCompleted(checkpoint uint64) {
	if listener, isOne := p.operator.(CheckpointListener); isOne {
		p.tell("CheckpointCompleted", func() { listener.CheckpointCompleted(checkpoint) })
	}
}

func (p *plugin) CheckpointAborted(checkpoint uint64) {
	if listener, isOne := p.operator.(CheckpointListener); isOne {
		p.tell("CheckpointAborted", func() { listener.CheckpointAborted(checkpoint) })
	}
}

// tell calls the operator where nothing comes back: what goes wrong is logged, and the operator is dropped.
func (p *plugin) tell(what string, call func()) {
	defer func() {
		if cause := recover(); cause != nil {
			p.operator = nil
			text := strings.ToValidUTF8(recovered(cause).Error(), "\uFFFD")
			contract.Current.Line(contract.LevelError, what+": "+text)
		}
	}()
	call()
}
