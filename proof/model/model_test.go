package main

import "testing"

// TestModels explores what is small enough for a test: the protocols hold what they promise, and each that is broken does not.
func TestModels(t *testing.T) {
	t.Parallel()
	for _, c := range checks() {
		if c.Long {
			continue
		}
		name := c.Model + "/" + c.Broken
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := c.Run()
			t.Logf("%s: %d states, %d transitions, depth %d, %v", c.Size, r.States, r.Transitions, r.Depth, r.Took)
			if asExpected(c, r) {
				return
			}
			if r.Counterexample == nil {
				t.Fatalf("nothing was found; want a violation of %q", c.Breaks)
			}
			t.Errorf("want %q, got\n%v", c.Breaks, r.Counterexample)
		})
	}
}
