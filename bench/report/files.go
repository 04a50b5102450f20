package report

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Write puts results.md, results.json and a picture for each scenario into a folder, which is made.
func (r *Result) Write(folder string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	if err := writeFile(filepath.Join(folder, "results.md"), r.Markdown); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	if err := writeFile(filepath.Join(folder, "results.json"), r.JSON); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	for _, s := range r.Scenarios {
		path := filepath.Join(folder, fmt.Sprintf("scenario-%02d.svg", s.Number))
		drawn := false
		err := writeFile(path, func(w io.Writer) (err error) { drawn, err = r.Plot(w, s); return err })
		if err == nil && !drawn {
			err = os.Remove(path)
		}
		if err != nil {
			return fmt.Errorf("write results: %w", err)
		}
	}
	return nil
}

// JSON writes the result for programs.
func (r *Result) JSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

func writeFile(path string, write func(io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := write(f); err != nil {
		_ = f.Close() // the error of writing says more
		return err
	}
	return f.Close()
}
