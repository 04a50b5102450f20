// Package kafka is a sink of the relay for Apache Kafka and what speaks its protocol: events become records of topics.
//
// A message is settled when all in-sync replicas have it (acks=all), and the producer is idempotent, whatever [Config.Options] say. Messages
// of a key are in flight together, in their order, and go to the partition that Java's producer would choose.
//
// # Order
//
// The client (franz-go) fails everything that is behind a failed record in its partition. What it takes between that and the moment when
// the failure is known would still overtake what failed. Two things prevent that:
//
//   - The client asks the context of a record before it first sends a batch that has nothing unanswered before it. There, a flight waits
//     until the sink knows what became of all records before it, and ends if one of its key failed (flight.go).
//   - Once a message of a key has failed, others of the key are refused until one that failed comes again, which shows that the relay knows
//     (line.go).
//
// # What the client never gives up
//
// Records have no deadline and no limit of tries in the client, since giving up one that may have been written would give up order or the
// protection from duplicates. A message whose context ends, or that waits while Kafka is away, is answered, but its record stays; when the message is tried again, it
// waits for the same record. So an outage makes no copies.
//
// If a partition has lost records that it acknowledged (an unclean election of a leader, a disk that was lost), the client notices by
// sequence numbers. It goes on, in order, and the sink logs an error: what was lost is settled, and comes again by a replay. Stopping the
// producer, which the client has an option for, would bring nothing back, and keep the subscription down until a restart.
package kafka
