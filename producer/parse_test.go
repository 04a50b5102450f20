package producer

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for body, reason := range map[string]string{
		``:                          "malformed JSON",
		` `:                         "malformed JSON",
		`nonsense`:                  "malformed JSON",
		`{"name":"n","value":1`:     "malformed JSON",
		`{"name":"n","value":1,}`:   "malformed JSON",
		`{"name":"n","value":1} {}`: "malformed JSON",
		`{"name":"n","value":1}x`:   "malformed JSON",
		`{"name":"n","value":NaN}`:  "malformed JSON",
		`{"name":"n","value":01}`:   "malformed JSON",
		"{\"name\":\"\xff\"}":       "not valid UTF-8",
		`null`:                      "a signal is a JSON object",
		`"name"`:                    "a signal is a JSON object",
		`[]`:                        "a signal is a JSON object",
		`{}`:                        "name is missing",
		`{"value":1}`:               "name is missing",
		`{"name":"n"}`:              "value is missing",
		`{"Name":"n","value":1}`:    `field "Name" is unknown`,
		`{"name":"n","value":1,"timestmap":"2026-11-22T10:00:00Z"}`:      `field "timestmap" is unknown`,
		`{"name":"n","value":1,"value":2}`:                               `field "value" is given twice`,
		`{"name":null,"value":1}`:                                        "name is not a string",
		`{"name":1,"value":1}`:                                           "name is not a string",
		`{"name":"","value":1}`:                                          "name is empty",
		`{"name":" ","value":1}`:                                         "name is empty",
		`{"name":"\u0000","value":1}`:                                    "zero byte",
		`{"name":"\ud800","value":1}`:                                    "not valid Unicode",
		`{"name":"` + strings.Repeat("n", 1025) + `","value":1}`:         "1025 bytes long",
		`{"name":"n","value":"1"}`:                                       "value is not a number",
		`{"name":"n","value":null}`:                                      "value is not a number",
		`{"name":"n","value":true}`:                                      "value is not a number",
		`{"name":"n","value":[1]}`:                                       "value is not a number",
		`{"name":"n","value":1e999}`:                                     "value is not a finite number",
		`{"name":"n","value":-1e999}`:                                    "value is not a finite number",
		`{"name":"n","value":1,"timestamp":null}`:                        "timestamp is not a string",
		`{"name":"n","value":1,"timestamp":1795341600}`:                  "timestamp is not a string",
		`{"name":"n","value":1,"timestamp":"yesterday"}`:                 "RFC 3339",
		`{"name":"n","value":1,"timestamp":"2026-11-22"}`:                "RFC 3339",
		`{"name":"n","value":1,"timestamp":"2026-11-22T10:00:00"}`:       "RFC 3339",
		`{"name":"n","value":1,"timestamp":"2026-02-30T10:00:00Z"}`:      "RFC 3339",
		`{"name":"n","value":1,"timestamp":"0001-01-01T00:00:00Z"}`:      "RFC 3339",
		`{"name":"n","value":1,"timestamp":"0000-06-01T00:00:00Z"}`:      "years 1 to 9999",
		`{"name":"n","value":1,"timestamp":"9999-12-31T23:59:59-01:00"}`: "years 1 to 9999",
	} {
		if signal, err := parseOne([]byte(body)); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%.60q: got %+v, %v; want an error with %q", body, signal, err, reason)
		}
	}
}

func TestParseArrayRefuses(t *testing.T) {
	t.Parallel()
	const good = `{"name":"n","value":1}`
	for body, reason := range map[string]string{
		``:                          "malformed JSON",
		`[`:                         "malformed JSON",
		`{}`:                        "not a JSON array",
		`[` + good:                  "malformed JSON: it ends early",
		`[` + good + `,]`:           "[1] on line 1: malformed JSON",
		`[` + good + ` ` + good:     "malformed JSON",
		`[` + good + `] []`:         "something follows",
		`[` + good + `]]`:           "something follows",
		"[\xff]":                    "not valid UTF-8",
		`[1]`:                       "[0] on line 1: a signal is a JSON object",
		"[\n\n" + good + "\n,\nx]":  "[1] on line 5: malformed JSON",
		"[" + good + ",\r\n\r\n{}]": "[1] on line 3: name is missing",
	} {
		if signals, err := parseArray([]byte(body)); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%q: got %+v, %v; want an error with %q", body, signals, err, reason)
		}
	}
}

// FuzzParse: nothing panics, and what is taken can be stored, and means the same in all three forms.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{"name":"n","value":1}`, `{"name":"n","value":-1.5e-300,"timestamp":"2026-11-22T10:00:00.123456789+14:00"}`,
		`{"name":"\ud83d\ude00","value":1e999}`, `{"name":"n","value":1}{}`, `[{"name":"n","value":1},{}]`, "{}\n{", `[[[[`, "\xff", ``,
		`{"value":{"value":[1,"]"]},"name":"}"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		_, _ = parseLines(body)
		_, _ = parseArray(body)
		signal, err := parseOne(body)
		if err != nil {
			return
		}
		if err := signal.check(0); err != nil {
			t.Fatalf("%q was taken, but cannot be stored: %v", body, err)
		}
		if !json.Valid(body) {
			t.Fatalf("%q was taken, but is not JSON", body)
		}
		array, err := parseArray([]byte("[\n" + string(body) + ", " + string(body) + "]"))
		if diff := cmp.Diff([]Signal{signal, signal}, array); diff != "" || err != nil {
			t.Fatalf("%q differs in an array: %v\n%s", body, err, diff)
		}
		if strings.ContainsAny(string(body), "\r\n") {
			return
		}
		lines, err := parseLines([]byte(string(body) + "\r\n\n" + string(body)))
		if diff := cmp.Diff([]Signal{signal, signal}, lines); diff != "" || err != nil {
			t.Fatalf("%q differs in lines: %v\n%s", body, err, diff)
		}
	})
}
