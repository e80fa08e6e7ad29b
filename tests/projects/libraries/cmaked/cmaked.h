#ifdef __cplusplus
extern "C" {
#endif
const char *cmaked_name(void);
int cmaked_answer(void);
#ifdef __cplusplus
}
#endif
