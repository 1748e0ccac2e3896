// Package warehouse holds the goods: what a stock service does, in whatever
// pattern. Its functions work in a transaction that they are given.
//
// They do not ask whether they were called before. That each event comes to them
// once is the business of package consume.
package warehouse
