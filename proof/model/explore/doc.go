// Package explore checks models exhaustively: it visits every state that a model can reach, breadth first, so that the
// counterexamples it finds are the shortest there are.
//
// A [Model] is a first state and a list of actions. An [Action] is one kind of step of one actor. Whatever can happen next in a
// state happens in some run, in every order: nothing is left to chance, and two runs of a check give the same result.
//
// Three kinds of properties can be checked.
//
//   - [Always]: a condition holds in every state.
//   - [Free]: an actor is never blocked: wherever a condition holds, it has a step to take.
//   - [Eventually]: what waits does not wait for ever.
//
// The last one needs fairness: nothing happens in a model in which nobody ever moves. An action that is Fair is taken
// sooner or later if it can be taken from some point on without end (weak fairness). A run in which something waits for ever ends up
// circling among states in each of which it waits, and which can all be reached from each other; or it stays in one of them. The
// explorer finds all such sets (the strongly connected components of the graph of states in which it waits), and asks
// for each: is there a fair action that could be taken in every state of the set, and is taken nowhere in it? Then no fair run
// can stay. If there is none, one that goes round through all its states and steps is fair, and never leaves: a counterexample. So
// for a finite model the answer is exact: it misses nothing, and reports nothing that cannot be.
//
// A step that changes nothing is no step, as is usual: otherwise, "looks, and finds nothing" could go on for ever and be
// called fair.
package explore
