// Parts numbers: below the limit to `small`, others to `large`, and each odd one also to `odd`, all under one key there. What is no
// number is rejected.
package main

import (
	"strconv"
	"strings"

	"floodmark.dev/sdk"
)

// Router knows the least number that is large.
type Router struct {
	limit int64
}

func (r *Router) Outputs() []string { return []string{"small", "large", "odd"} }

func (r *Router) Open(config *sdk.Config) error {
	r.limit = config.Int("limit", 100)
	return nil
}

func (r *Router) Process(record sdk.Record, out *sdk.Output) error {
	value := record.Value()
	// A `+` is not part of a number.
	number, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil || strings.HasPrefix(string(value), "+") {
		out.Rejectf("not a number: %s", value)
		return nil
	}
	if number < r.limit {
		out.To("small").Emit(value)
	} else {
		out.To("large").Emit(value)
	}
	if number%2 != 0 {
		out.To("odd").KeyString("odd").At(0).Emit(value)
	}
	return nil
}

func init() { sdk.Register(&Router{}) }

func main() {}
