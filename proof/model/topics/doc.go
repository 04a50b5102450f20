// Package topics is a model of how the topics of a subscription change in place (docs/design.md, "Topics change at the cursors"): publishers
// that commit late, an operator who adds a topic and takes it away again, and workers of an old and a new binary, which claim a lane,
// read, release it and die.
//
// # What is checked
//
//   - [AsPromised]: what the cursor has passed is delivered if, and only if, it was of the subscription's topics when that happened, or
//     was back-filled. So no event of an added topic that commits after the change is lost, and none of before is delivered unasked.
//   - [Once]: no event is delivered twice.
//   - [Known]: no worker is given an event of a topic that it does not know.
//
// # What is left out, and why that is sound
//
//   - A read is one step, and what it finds is settled in it: packages reading and lanes check what is in between.
//   - One lane: a change waits until all are free, so each is as the one here. Held keys are like lanes of their own, with a cursor where they
//     are held: what is in the log of them follows the new topics, as what is beyond cursors.
//   - Deliveries: those of topics that a worker does not know wait for another owner of their lane; see worker.runner.deliveryJobs.
package topics
