package admin

import (
	"fmt"
	"strconv"
)

// A Cursor is a place in a list, between two pages. It is opaque: take it from a [Page], keep it for as long as wanted, and give it back to
// the same list with the same filter. Its zero value is the beginning of a list as an After, and its end as a Next.
type Cursor string

// ListOptions choose which part of a list comes next. The zero value is for the first page, of 100.
type ListOptions struct {
	After Cursor // the Next of the page before. Defaults to the beginning
	Limit int    // items at most, from 1 to 1000. Defaults to 100
}

// A Page is a part of a list. Only Next tells whether it is the last one: a page may be short, or empty, because as much was looked
// at as one call may.
type Page[T any] struct {
	Items []T    `json:"items"`
	Next  Cursor `json:"next"` // the After of the page that follows; "" where there is none
}

// The defaults of ListOptions.
const (
	pageLimit    = 100
	maxPageLimit = 1000
)

// check fills in the defaults, and returns the id after which a list of events or deliveries goes on, or ErrInvalidFilter.
func (o *ListOptions) check() (after int64, err error) {
	if err := o.checkLimit(); err != nil || o.After == "" {
		return 0, err
	}
	after, err = strconv.ParseInt(string(o.After), 10, 64)
	if err != nil || after < 0 {
		return 0, fmt.Errorf("%w: after is %q, must be the next of a page", ErrInvalidFilter, string(o.After))
	}
	return after, nil
}

func (o *ListOptions) checkLimit() error {
	if o.Limit == 0 {
		o.Limit = pageLimit
	}
	if o.Limit < 0 || o.Limit > maxPageLimit {
		return fmt.Errorf("%w: limit is %d, must be 1 to %d", ErrInvalidFilter, o.Limit, maxPageLimit)
	}
	return nil
}

// cursorAt is the cursor after an event; 0 for the end.
func cursorAt(id int64) Cursor {
	if id == 0 {
		return ""
	}
	return Cursor(strconv.FormatInt(id, 10))
}
