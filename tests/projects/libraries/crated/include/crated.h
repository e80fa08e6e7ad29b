int crated_answer(void);
