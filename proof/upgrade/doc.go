// Package upgrade has no code. Its tests deploy releases one after the other, without a stop and under traffic: the programs of a pinned
// commit, built from the repository's history, and today's, on the old schema, today's, and newer ones that only the tests have.
//
// The newer schemas are migrations that the tests add to today's programs when they build them. The first ones add to every table that is in
// use, and still serve the pinned programs: these have to go on, and to be killed, restarted and rolled back to. The last one does not serve
// them any more: they have to say so in one line. What producers acknowledged and what handlers did is in a ledger outside of the database.
package upgrade
