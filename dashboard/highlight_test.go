package dashboard

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

func shown(raw string) (text string, kinds map[string]string, cut bool) {
	tokens, cut := highlight([]byte(raw))
	kinds = map[string]string{}
	for _, t := range tokens {
		text += t.Text
		if t.Kind != "" {
			kinds[t.Text] = t.Kind
		}
	}
	return text, kinds, cut
}

// What is shown is the payload, indented as encoding/json does.
func TestHighlight(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{
		`{}`, `[ ]`, `""`, `-1.5e+3`, ` null `, `[[],{"a":{}}]`, `{"a" : [1, 2,{"b\"}":"x,\\"}],"c":true,` + "\n\t" + `"d":"ü"}`, `[[[1]],[{}]]`,
	} {
		var want bytes.Buffer
		if err := json.Indent(&want, []byte(strings.TrimSpace(raw)), "", "  "); err != nil {
			t.Fatal(err)
		}
		if got, _, cut := shown(raw); got != want.String() || cut {
			t.Errorf("of %s, %t:\n%s\nwant\n%s", raw, cut, got, &want)
		}
	}
	_, kinds, _ := shown(`{"key" : "text", "n": -1.5e3, "word": null}`)
	for text, kind := range map[string]string{`"key"`: "key", `"text"`: "string", "-1.5e3": "number", "null": "word"} {
		if kinds[text] != kind {
			t.Errorf("%s is a %q, want a %q", text, kinds[text], kind)
		}
	}
}

// However large or deep a payload is, only so much of it is shown.
func TestHighlightStops(t *testing.T) {
	t.Parallel()
	for name, raw := range map[string]string{
		"long": `["` + strings.Repeat("ü", shownPayload) + `"]`, "many": "[" + strings.Repeat("1,", shownPayload) + "1]",
		"deep": strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000),
	} {
		got, _, cut := shown(raw)
		if !cut || len(got) < shownPayload-4 || len(got) > shownPayload+2000 || !utf8.ValidString(got) {
			t.Errorf("%s: %d bytes, %t", name, len(got), cut)
		}
	}
}
