package plain

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestText(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]struct{ quote, line, block string }{
		"":                         {"", "", ""},
		"A-17":                     {"A-17", "A-17", "A-17"},
		"two  words":               {"two  words", "two  words", "two  words"},
		"größe 訂單 🧾 فاتورة":        {"größe 訂單 🧾 فاتورة", "größe 訂單 🧾 فاتورة", "größe 訂單 🧾 فاتورة"},
		"frame 1\rframe 2":         {`"frame 1\rframe 2"`, "frame 1 frame 2", "frame 1\nframe 2"},
		"one\r\n\ttwo\n":           {`"one\r\n\ttwo\n"`, "one two", "one\n\ttwo\n"},
		"one\u0085two\u2028\u2029": {`"one\u0085two\u2028\u2029"`, "one two", "one\ntwo\n\n"},
		"\x1b[2Jgone":              {`"\x1b[2Jgone"`, "[2Jgone", "\uFFFD[2Jgone"},
		"\u009b2Jgone":             {`"\u009b2Jgone"`, "2Jgone", "\uFFFD2Jgone"},
		"a\u202etxt.exe":           {`"a\u202etxt.exe"`, "a txt.exe", "a\uFFFDtxt.exe"},
		"zero\u200bwidth":          {`"zero\u200bwidth"`, "zero width", "zero\uFFFDwidth"},
		"no\u00a0break":            {`"no\u00a0break"`, "no break", "no break"},
		"👩\u200d🚀":                 {`"👩\u200d🚀"`, "👩 🚀", "👩\u200d🚀"},
		"not \xff UTF-8":           {`"not \xff UTF-8"`, "not \uFFFD UTF-8", "not \uFFFD UTF-8"},
		"a\x00b\x07c\x7fd":         {`"a\x00b\ac\x7fd"`, "a b c d", "a\uFFFDb\uFFFDc\uFFFDd"},
	} {
		if got := Quote(text); got != want.quote {
			t.Errorf("Quote(%q) is %q, want %q", text, got, want.quote)
		}
		if got := Line(text); got != want.line {
			t.Errorf("Line(%q) is %q, want %q", text, got, want.line)
		}
		if got := Block(text); got != want.block {
			t.Errorf("Block(%q) is %q, want %q", text, got, want.block)
		}
	}
}

func TestClip(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		text string
		most int
		want string
	}{{"größe", 5, "größe"}, {"größe", 4, "grö…"}, {"größe", 1, "…"}, {"größe", 0, "…"}, {"", 0, ""}} {
		if got := Clip(test.text, test.most); got != test.want {
			t.Errorf("Clip(%q, %d) is %q, want %q", test.text, test.most, got, test.want)
		}
	}
}

func FuzzText(f *testing.F) {
	for _, text := range []string{"A-17", "a\rb", "\x1b]0;x\a", "\u202e", "\xff\xfe", "\uFFFD"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for name, shown := range map[string]string{"Quote": Quote(text), "Line": Line(text), "Shell": Shell(text)} {
			if !Printable(shown) {
				t.Errorf("%s(%q) is %q, which is not printable", name, text, shown)
			}
		}
		if Printable(text) && (Line(text) != text || Block(text) != text) {
			t.Errorf("what is printable changes: %q, %q", Line(text), Block(text))
		}
		for line := range strings.SplitSeq(Block(text), "\n") {
			if !Printable(strings.NewReplacer("\t", "", "\u200C", "", "\u200D", "").Replace(line)) {
				t.Errorf("Block(%q) has the line %q", text, line)
			}
		}
	})
}

// It is the same JSON, and nothing in it does anything.
func FuzzJSON(f *testing.F) {
	for _, raw := range []string{`{"a": "b"}`, "{\r\n\t\"a\u202e\": \"\u009b2J\u2028 \U000e0041 \x7f 👩\u200d🚀\"}", "\"\xff\"", "[1, true, null]"} {
		f.Add([]byte(raw))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		before := bytes.Clone(raw)
		var want, got any
		if json.Unmarshal(raw, &want) != nil {
			return
		}
		shown := JSON(raw)
		if !bytes.Equal(raw, before) {
			t.Fatalf("it changes what it is given: %q, which was %q", raw, before)
		}
		if err := json.Unmarshal(shown, &got); err != nil {
			t.Fatalf("%q is %q: %v", raw, shown, err)
		}
		a, _ := json.Marshal(want)
		b, _ := json.Marshal(got)
		if !bytes.Equal(a, b) {
			t.Errorf("%q means something else than %q", shown, raw)
		}
		if text := strings.NewReplacer("\n", "", "\r", "", "\t", "").Replace(string(shown)); !Printable(text) {
			t.Errorf("%q has what is not printable", shown)
		}
	})
}

// A shell takes the word for what it was.
func TestShell(t *testing.T) {
	t.Parallel()
	for word, want := range map[string]string{
		"mails": "mails", "": "''", "it's": `'it'\''s'`, "x; rm -rf ~": "'x; rm -rf ~'", "$(id)": "'$(id)'", "größe": "'größe'",
		"a\nb": `$'a\012b'`, "a\u202e1": `$'a\342\200\2561'`, "it's\\\x1b": `$'it\'s\\\033'`, "\xff": `$'\377'`, "!!\r": `$'!!\015'`,
	} {
		got := Shell(word)
		if got != want {
			t.Errorf("Shell(%q) is %s, want %s", word, got, want)
		}
		bash, err := exec.LookPath("bash")
		if err != nil {
			continue
		}
		out, err := exec.CommandContext(t.Context(), bash, "-c", "printf %s "+got).Output()
		if err != nil || string(out) != word {
			t.Errorf("bash takes %s for %q: %v", got, out, err)
		}
	}
	if !utf8.ValidString(Shell("\xff")) {
		t.Error("what is not UTF-8 stays")
	}
}
