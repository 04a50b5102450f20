package cli

import (
	"fmt"
	"strconv"
	"time"
)

// Unlimited is the value of a limit for which a flag has the word unlimited: that of worker.Unlimited.
const Unlimited = -1

// unlimited is that word.
const unlimited = "unlimited"

// A DurationLimit is a flag for a duration of more than 0, or unlimited.
type DurationLimit time.Duration

// UnmarshalText reads the flag's value.
func (d *DurationLimit) UnmarshalText(text []byte) error {
	if string(text) == unlimited {
		*d = Unlimited
		return nil
	}
	v, err := time.ParseDuration(string(text))
	if err != nil || v <= 0 {
		return fmt.Errorf("%q must be a duration of more than 0, such as 90s, or %s", text, unlimited)
	}
	*d = DurationLimit(v)
	return nil
}

// A CountLimit is a flag for a number of at least 1, or unlimited.
type CountLimit int

// UnmarshalText reads the flag's value.
func (c *CountLimit) UnmarshalText(text []byte) error {
	if string(text) == unlimited {
		*c = Unlimited
		return nil
	}
	v, err := strconv.Atoi(string(text))
	if err != nil || v < 1 {
		return fmt.Errorf("%q must be a number of at least 1, or %s", text, unlimited)
	}
	*c = CountLimit(v)
	return nil
}

// A RateLimit is a flag for a number per second of more than 0, or unlimited.
type RateLimit float64

// UnmarshalText reads the flag's value.
func (r *RateLimit) UnmarshalText(text []byte) error {
	if string(text) == unlimited {
		*r = Unlimited
		return nil
	}
	v, err := strconv.ParseFloat(string(text), 64)
	if err != nil || !(v > 0) { // nor is it NaN
		return fmt.Errorf("%q must be a number of more than 0, or %s", text, unlimited)
	}
	*r = RateLimit(v)
	return nil
}
