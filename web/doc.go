// Package web serves the live view over HTTP: the page, the JSON API, live updates by server-sent
// events, CSV and metrics.
//
// What it shows it declares as a small interface, [Source]; it knows nothing of Kafka and MySQL,
// and changes nothing. One goroutine reads the board, about once a second, however many clients
// there are; all of them are served from what it read last, and one that reads slowly costs no more
// than one that reads fast. A page's figures are never older than it says: where the source fails,
// the last board stays, marked as stale.
package web
