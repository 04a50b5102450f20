package explore

// A Check is a model to explore, and what is to be found.
type Check struct {
	Model  string
	Size   string // how much may happen, in words
	Broken string // what is wrong with the model, in words; empty for the protocol as it is
	Breaks string // the property that a counterexample violates; empty when all hold
	Long   bool   // takes minutes, or the memory of a large machine: not for tests
	Run    func() Result
}
