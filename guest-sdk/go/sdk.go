// Package sdk is for writing operators for Floodmark: what an operator does with one record, and what it keeps for the key.
//
//	type WordCount struct {
//		count sdk.Value[uint64]
//	}
//
//	func (w *WordCount) Process(_ sdk.Record, out *sdk.Output) error {
//		count := w.count.Get() + 1
//		w.count.Set(count)
//		out.EmitDecimal(count)
//		return nil
//	}
//
//	func init() { sdk.Register(&WordCount{}) }
//
//	func main() {}
//
// A batch of records is a transaction: after an error or a panic nothing of it is applied. The README has the rest on one page, and package
// sdktest tests operators without Floodmark.
//
// The package speaks the contract's canonical ABI by itself (files that end in `_wasip1.go`), so a component needs no generated code; for
// any other target there are no exports, and an operator is an ordinary type with ordinary tests.
package sdk
