package worker

import "time"

// keyTimes is what the keys of a window have taken whose events run one after the other, in a transaction.
type keyTimes struct {
	several bool // whether the window has more than one
	spent   map[string]time.Duration
}

// begin is about the events of another window.
func (k *keyTimes) begin(jobs []*job) {
	k.several = false
	for _, j := range jobs {
		if j.event.Key != jobs[0].event.Key {
			k.several = true
			break
		}
	}
	if clear(k.spent); k.spent == nil {
		k.spent = map[string]time.Duration{}
	}
}

func (k *keyTimes) add(key string, took time.Duration) {
	if key != "" {
		k.spent[key] += took
	}
}

// over reports whether a key has had its time in a window that has lasted so long: more than a long one and most of it.
func (k *keyTimes) over(key string, lasted time.Duration) bool {
	spent := k.spent[key]
	return spent >= tailTime && spent > lasted/2
}
