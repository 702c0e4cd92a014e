// A PKCS#11 module in front of SoftHSM that does what a bad token does when a test asks for it with a file in its folder:
//
//   hang   C_Sign does not return while the file is there.
//   drop   Every session is closed between C_SignInit and C_Sign, once for each file: what a token does that somebody else resets.
//
// Everything else is SoftHSM's. tests/it/token_faults.rs builds it with cc.
//
// Sessions are closed while no other call is in SoftHSM: its C_CloseAllSessions frees what calls of other threads still use.
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long ulong_t;
// CK_FUNCTION_LIST of PKCS#11 2.40: a version, and the functions in the order of the standard.
struct list { unsigned char version[2]; void *functions[68]; };
typedef ulong_t (*function)(ulong_t, ulong_t, ulong_t, ulong_t, ulong_t, ulong_t);
enum { C_GET_SLOT_LIST = 4, C_CLOSE_ALL_SESSIONS = 14, C_SIGN = 43 };
enum { CKR_GENERAL_ERROR = 5, SLOTS_MAX = 16 };

static struct list *real, ours;
static pthread_rwlock_t within = PTHREAD_RWLOCK_INITIALIZER;

// A call under the lock. Its arguments are all as wide as a register, and who takes fewer than six does not see the others.
#define GUARDED(n)                                                                            \
  static ulong_t call_##n(ulong_t a, ulong_t b, ulong_t c, ulong_t d, ulong_t e, ulong_t f) { \
    pthread_rwlock_rdlock(&within);                                                           \
    ulong_t answer = ((function)real->functions[n])(a, b, c, d, e, f);                        \
    pthread_rwlock_unlock(&within);                                                           \
    return answer;                                                                            \
  }
// What the service calls with a session: open, close, information, login, attributes, find, sign init, verify.
#define WITH_SESSION(each) each(12) each(13) each(15) each(18) each(24) each(26) each(27) each(28) each(42) each(48) each(49)
WITH_SESSION(GUARDED)

static const char *file(char *path, size_t len, const char *name) {
  snprintf(path, len, "%s/%s", getenv("COUNTERSIGN_TEST_TOKEN"), name);
  return path;
}

static void drop_sessions(void) {
  ulong_t slots[SLOTS_MAX], count = SLOTS_MAX;
  ulong_t (*list)(unsigned char, ulong_t *, ulong_t *) = real->functions[C_GET_SLOT_LIST];
  ulong_t (*close_all)(ulong_t) = real->functions[C_CLOSE_ALL_SESSIONS];
  if (list(1, slots, &count) != 0) return;
  pthread_rwlock_wrlock(&within);
  for (ulong_t i = 0; i < count; i++) close_all(slots[i]);
  pthread_rwlock_unlock(&within);
}

static ulong_t sign(ulong_t session, unsigned char *data, ulong_t len, unsigned char *signature, ulong_t *signature_len) {
  char path[4096];
  while (access(file(path, sizeof path, "hang"), F_OK) == 0) usleep(1000);
  // Whoever takes the file away drops them: once.
  if (unlink(file(path, sizeof path, "drop")) == 0) drop_sessions();
  ulong_t (*really)(ulong_t, unsigned char *, ulong_t, unsigned char *, ulong_t *) = real->functions[C_SIGN];
  pthread_rwlock_rdlock(&within);
  ulong_t answer = really(session, data, len, signature, signature_len);
  pthread_rwlock_unlock(&within);
  return answer;
}

ulong_t C_GetFunctionList(struct list **given) {
  void *module = dlopen(getenv("COUNTERSIGN_TEST_MODULE"), RTLD_NOW | RTLD_LOCAL);
  ulong_t (*of_module)(struct list **) = module ? dlsym(module, "C_GetFunctionList") : NULL;
  if (!of_module || of_module(&real) != 0) return CKR_GENERAL_ERROR;
  ours = *real;
#define TAKES_PLACE(n) ours.functions[n] = call_##n;
  WITH_SESSION(TAKES_PLACE)
  ours.functions[C_SIGN] = sign;
  *given = &ours;
  return 0;
}
