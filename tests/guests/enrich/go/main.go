// Adds to each record the profile of its key. Profiles have an input of their own, and an empty one clears what was there.
package main

import "floodmark.dev/sdk"

// Enrich keeps the profiles.
type Enrich struct {
	profile sdk.Value[string]
}

func (e *Enrich) Inputs() []string { return []string{"records", "profiles"} }

func (e *Enrich) Process(record sdk.Record, out *sdk.Output) error {
	text, err := record.Text()
	switch {
	case err != nil:
		return err
	case record.Input() == "records":
		profile, isKnown := e.profile.Lookup()
		if !isKnown {
			profile = "?"
		}
		out.EmitString(text + "|" + profile)
	case text == "":
		e.profile.Clear()
	default:
		e.profile.Set(text)
	}
	return nil
}

func init() { sdk.Register(&Enrich{}) }

func main() {}
