package main

import (
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
)

func TestReports(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "reports")
	r, err := openReports(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.file.Close()

	// Several processes write at once; their lines stay whole.
	var writers sync.WaitGroup
	for process := range 4 {
		writers.Go(func() {
			out, err := openReporter(path, int32(process))
			if err != nil {
				t.Error(err)
				return
			}
			defer out.file.Close()
			for n := range 100 {
				out.write(orders, succeeded, now(), int64(n), int64(n+1000))
			}
		})
	}
	writers.Wait()
	if err := r.read(); err != nil {
		t.Fatal(err)
	}
	last := 0
	for _, one := range r.all() {
		if one.number == 1099 && one.what == succeeded && one.subscription == orders {
			last++
		}
	}
	if len(r.all()) != 800 || r.torn != 0 || last != 4 {
		t.Errorf("read %d reports, %d torn ones, and event 1099 %d times", len(r.all()), r.torn, last)
	}

	// A kill cuts a line off at any place. The next process's line is not harmed, and a report that was cut off is none.
	whole := "\n3 1 k 77 5 9.\n"
	for cut := range len(whole) - 1 {
		file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		before := len(r.all())
		if _, err := file.WriteString(whole[:cut] + "\n4 1 k 78 5 9.\n"); err != nil {
			t.Fatal(err)
		}
		_ = file.Close()
		if err := r.read(); err != nil {
			t.Fatal(err)
		}
		got := r.all()[before:]
		want := []report{{began: 5, at: 9, number: 78, process: 4, subscription: 1, what: 'k'}}
		if cut == len(whole)-1 {
			want = slices.Insert(want, 0, report{began: 5, at: 9, number: 77, process: 3, subscription: 1, what: 'k'})
		}
		if !slices.Equal(got, want) {
			t.Errorf("cut off after %d bytes: read %+v, want %+v", cut, got, want)
		}
	}
}
