// Sabotage breaks the product on purpose, one bug at a time, on a temporary copy of the tree, and checks that a test notices.
//
// A test that has never failed proves little. Each bug here is one that somebody could well make, and that would lose,
// repeat or disorder events; each names the test that has to fail. A bug that no test notices is a hole in the tests,
// and ends the program with an error.
//
//	go run ./proof/sabotage                 # all of them
//	go run ./proof/sabotage -bug 'pending'  # those whose name matches
//
// The product has no switches for any of this: a bug is an edit of its source. Its own test checks that each edit still fits.
package main
