// Package cli is what the commands of Signalbox share: how they read flags, log, stop on a signal, reach the database,
// serve HTTP and report errors.
//
// A command is a [Command] function, which tests call like any other; its main function only hands it to [Main]:
//
//	func main() { cli.Main("producer", Run) }
//
// All commands keep the same promises. Results go to standard output, logs and errors to standard error. The exit code is
// 0 for success, 1 for an error, 2 for wrong flags, 3 where something that was named does not exist, 4 where something was
// refused, and 128 plus the signal's number for what a signal cut short. An error is one line that says what to do.
package cli
