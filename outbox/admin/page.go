package admin

import "fmt"

// ListOptions choose which part of a list comes next. The zero value is for the first page, of 100.
type ListOptions struct {
	After int64 // the Next of the page before; 0 for the first page
	Limit int   // items at most, from 1 to 1000. Defaults to 100
}

// The defaults of ListOptions.
const (
	pageLimit    = 100
	maxPageLimit = 1000
)

// check fills in the defaults, or returns ErrInvalidFilter.
func (o *ListOptions) check() error {
	if o.Limit == 0 {
		o.Limit = pageLimit
	}
	switch {
	case o.Limit < 0 || o.Limit > maxPageLimit:
		return fmt.Errorf("%w: limit is %d, must be 1 to %d", ErrInvalidFilter, o.Limit, maxPageLimit)
	case o.After < 0:
		return fmt.Errorf("%w: after is %d, must be the id of an event", ErrInvalidFilter, o.After)
	}
	return nil
}

// A Page is a part of a list. Only Next tells whether it is the last one: a page may be short, or empty, because as much was looked
// at as one call may.
type Page[T any] struct {
	Items []T   `json:"items"`
	Next  int64 `json:"next"` // the After of the page that follows; 0 where there is none
}
