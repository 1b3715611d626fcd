// Package web serves the live view over HTTP: the page, the JSON API, live updates by server-sent
// events, CSV and metrics.
//
// It reads boards from a [Source], reaches neither Kafka nor MySQL, and changes nothing. One
// goroutine reads the board, about once a second, however many clients there are. All of them are
// served from the last board, and a slow client costs no more than a fast one. If the source fails,
// the last board stays and is marked as stale, so figures are never older than the page shows.
package web
