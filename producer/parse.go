package producer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"
)

// MaxBatch is how many signals a batch may have.
const MaxBatch = 10_000

// The functions here are stricter than encoding/json, which takes NAME for name, the last of two values, null for
// anything, and broken UTF-8 for U+FFFD: what a sender misspells would be lost without a word.

var errNotUTF8 = errors.New("the body is not valid UTF-8")

// parseOne reads a body that is one signal.
func parseOne(body []byte) (Signal, error) {
	if !utf8.Valid(body) {
		return Signal{}, errNotUTF8
	}
	if err := checkSyntax(body); err != nil {
		return Signal{}, err
	}
	return parseSignal(body)
}

// parseArray reads a body that is a JSON array of signals. Errors give the signal's index and line.
func parseArray(body []byte) ([]Signal, error) {
	if !utf8.Valid(body) {
		return nil, errNotUTF8
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	if token, err := decoder.Token(); err != nil {
		return nil, malformed(err)
	} else if token != json.Delim('[') {
		return nil, errors.New("the body is not a JSON array of signals")
	}
	var (
		signals []Signal
		line    = 1 // of position
		from    = 0 // counted up to here
	)
	for decoder.More() {
		// The next element begins after a comma and space.
		start := int(decoder.InputOffset())
		start += len(body[start:]) - len(bytes.TrimLeft(body[start:], ", \t\r\n"))
		line += bytes.Count(body[from:start], []byte("\n"))
		from = start

		at := func(err error) error { return fmt.Errorf("[%d] on line %d: %w", len(signals), line, err) }
		if len(signals) == MaxBatch {
			return nil, at(errTooMany)
		}
		var element json.RawMessage
		if err := decoder.Decode(&element); err != nil {
			return nil, at(malformed(err))
		}
		signal, err := parseSignal(element)
		if err != nil {
			return nil, at(err)
		}
		signals = append(signals, signal)
	}
	if _, err := decoder.Token(); err != nil { // the closing bracket
		return nil, malformed(err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the JSON array")
	}
	return signals, nil
}

// parseLines reads a body that has one signal a line, and maybe empty lines. Errors give the line.
func parseLines(body []byte) ([]Signal, error) {
	var signals []Signal
	number := 0
	for line := range bytes.Lines(body) {
		number++
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		if len(signals) == MaxBatch {
			return nil, fmt.Errorf("line %d: %w", number, errTooMany)
		}
		signal, err := parseOne(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		signals = append(signals, signal)
	}
	return signals, nil
}

var errTooMany = fmt.Errorf("a batch has at most %d signals: send the rest in another", MaxBatch)

// parseSignal reads one JSON value, whose syntax has been checked.
func parseSignal(value []byte) (Signal, error) {
	decoder := json.NewDecoder(bytes.NewReader(value))
	if token, err := decoder.Token(); err != nil {
		return Signal{}, malformed(err)
	} else if token != json.Delim('{') {
		return Signal{}, errors.New("a signal is a JSON object")
	}
	var signal Signal
	seen := map[string]bool{}
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return Signal{}, malformed(err)
		}
		field := token.(string) // inside an object every other token is
		var raw json.RawMessage
		if err := decoder.Decode(&raw); err != nil {
			return Signal{}, malformed(err)
		}
		if seen[field] {
			return Signal{}, fmt.Errorf("field %.40q is given twice", field)
		}
		seen[field] = true
		if err := signal.set(field, raw); err != nil {
			return Signal{}, err
		}
	}
	for _, field := range []string{"name", "value"} {
		if !seen[field] {
			return Signal{}, fmt.Errorf("%s is missing", field)
		}
	}
	var refused *SignalError
	if err := signal.check(0); errors.As(err, &refused) {
		return Signal{}, fmt.Errorf("%s %s", refused.Field, refused.Reason)
	}
	return signal, nil
}

// set gives a field the value that raw, valid JSON, has.
func (s *Signal) set(field string, raw []byte) error {
	isString := raw[0] == '"'
	switch field {
	case "name":
		if !isString || json.Unmarshal(raw, &s.Name) != nil {
			return errors.New("name is not a string")
		}
	case "value":
		if raw[0] != '-' && (raw[0] < '0' || raw[0] > '9') {
			return errors.New("value is not a number")
		}
		var err error
		if s.Value, err = strconv.ParseFloat(string(raw), 64); err != nil { // 1e999
			return errors.New("value is not a finite number: it is outside of the range of a double")
		}
	case "timestamp":
		var text string
		if !isString || json.Unmarshal(raw, &text) != nil {
			return errors.New("timestamp is not a string")
		}
		// UnmarshalText is stricter than time.Parse. The zero time, which Store would take for now, is a sender's mistake.
		if err := s.Timestamp.UnmarshalText([]byte(text)); err != nil || s.Timestamp.IsZero() {
			return errors.New("timestamp is not a time of the form 2006-01-02T15:04:05Z (RFC 3339)")
		}
	default:
		return fmt.Errorf("field %.40q is unknown: a signal has name, value and timestamp", field)
	}
	return nil
}

// checkSyntax reports JSON that is malformed or more than one value.
func checkSyntax(body []byte) error {
	var value json.RawMessage
	if err := json.Unmarshal(body, &value); err != nil {
		return malformed(err)
	}
	return nil
}

func malformed(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("it ends early")
	}
	return fmt.Errorf("malformed JSON: %w", err)
}
