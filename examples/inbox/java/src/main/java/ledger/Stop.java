package ledger;

/** Nothing can be handled before somebody has done what the remedy says. */
final class Stop extends RuntimeException {
  Stop(String problem, String remedy) {
    super(problem + "\nfix: " + remedy);
  }
}
