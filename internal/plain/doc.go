// Package plain shows text that others chose: keys, topics, names, errors, payloads. A carriage return, an escape sequence of
// terminals or a character that turns the direction of writing would change what stands around it, or hide something. What is
// shown is what [strconv.IsPrint] takes for printable: letters, marks, numbers, punctuation, symbols and the space.
//
//	Quote   a name or a key, exactly: quoted as in Go if anything in it is not printable
//	Line    prose in one line, such as an error
//	Block   prose in several lines
//	JSON    JSON, exactly: with escapes for what is not printable
//	Shell   an argument of a command to copy
package plain
